//! `OnnxModel`: the network of an ONNX file as a model that recipes can name.

use super::lower::lower;
use super::problem::{Problem, Result};
use super::program::Program;
use super::read::{File, without_weights};
use crate::Error;
use fixnet_autograd::{self as autograd, Store};
use fixnet_files::input_file;
use fixnet_nn::layers::Sequential;
use fixnet_nn::models::{self, Model, ModelKind, ModelSpec};
use fixnet_quant::QuantConfig;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, OnceLock};

/// The most bytes of a file: that of the format of its messages.
pub const MOST: u64 = 2 << 30;

/// What stands behind the path of a file whose last layer is replaced.
const NEW_HEAD: &str = ":new-head";

/// The row of the registry.
const KIND: ModelKind = ModelKind {
    form: "FILE.onnx[:new-head]",
    about: "a float network of another program, with its weights; new-head replaces its last layer",
    examples: &[],
    parse: |text| {
        let (path, new_head) = text.strip_suffix(NEW_HEAD).map_or((text, false), |path| (path, true));
        path.ends_with(".onnx").then(|| Ok(OnnxModel::new(path, new_head).into()))
    },
};

/// Adds ONNX files to the models that recipes can name. More than one call is one.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| models::register_model(KIND));
}

/// The content of a file.
#[derive(Debug)]
struct Content {
    file: File,
    /// blake3 of the file, in hexadecimal.
    digest: String,
    /// The graph without the numbers of its weights.
    graph: Vec<u8>,
}

impl Content {
    fn of(bytes: &[u8]) -> Result<Self> {
        let digest = blake3::hash(bytes).to_hex().to_string();
        Ok(Self { file: File::decode(bytes, false)?, digest, graph: without_weights(bytes)? })
    }
}

/// The network of an ONNX file. The file is read when the network is first needed.
#[derive(Debug, Clone)]
pub struct OnnxModel {
    path: PathBuf,
    new_head: bool,
    content: Arc<OnceLock<Result<Content>>>,
}

impl OnnxModel {
    /// Makes a model of the file `path`. With `new_head`, its last layer is replaced by one with as many outputs as the data
    /// have classes, which starts at random.
    pub fn new(path: impl Into<PathBuf>, new_head: bool) -> Self {
        Self { path: path.into(), new_head, content: Arc::default() }
    }

    /// Makes the model of a graph that [`graph`](Self::graph) gave: of a run whose file may be gone. Its weights are those of a
    /// checkpoint.
    ///
    /// # Errors
    /// The bytes are no such graph.
    pub fn recorded(&self, graph: &[u8], digest: &str) -> crate::Result<Self> {
        let file = File::decode(graph, true).map_err(|problem| self.wrong(problem))?;
        let content = Content { file, digest: digest.into(), graph: graph.to_vec() };
        Ok(Self { content: Arc::new(OnceLock::from(Ok(content))), ..self.clone() })
    }

    /// The model of a file of these bytes, for tests that read many.
    #[cfg(test)]
    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self> {
        let content = Arc::new(OnceLock::from(Ok(Content::of(bytes)?)));
        Ok(Self { path: "net.onnx".into(), new_head: false, content })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, if it was not read yet.
    ///
    /// # Errors
    /// [`Error::Onnx`]: it cannot be read, is no such file or a damaged one, or has operations that are not known.
    pub fn read(&self) -> crate::Result<()> {
        self.content().map(drop)
    }

    /// Returns blake3 of the file, in hexadecimal.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn digest(&self) -> crate::Result<&str> {
        Ok(&self.content()?.digest)
    }

    /// Returns the graph without the numbers of its weights, for [`recorded`](Self::recorded).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn graph(&self) -> crate::Result<&[u8]> {
        Ok(&self.content()?.graph)
    }

    /// Checks that the network takes inputs of this shape, [H, W, C] or `[F]`, and gives `outputs` values.
    ///
    /// # Errors
    /// [`Error::Onnx`]: as [`read`](Self::read); or a node has no form in fixnet, or the shapes are others.
    pub fn check(&self, input: &[usize], outputs: usize) -> crate::Result<()> {
        self.program(input, outputs).map(drop).map_err(|problem| self.wrong(problem))
    }

    fn wrong(&self, problem: Problem) -> Error {
        Error::Onnx { path: self.path.clone(), problem: Box::new(problem) }
    }

    fn content(&self) -> crate::Result<&Content> {
        self.loaded().map_err(|problem| self.wrong(problem))
    }

    fn loaded(&self) -> Result<&Content> {
        let load = || Content::of(&input_file::read(&self.path, MOST).map_err(|e| Problem::Read(e.to_string()))?);
        self.content.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    fn program(&self, input: &[usize], outputs: usize) -> Result<Program> {
        let content = self.loaded()?;
        let mut program = lower(&content.file, input)?;
        if self.new_head {
            program = program.with_new_head(outputs)?;
        }
        if program.output != [outputs] {
            let expected = format!("[N, {outputs}], an output for each class of the data");
            let found =
                format!("[N, {:?}]; {} (FILE.onnx{NEW_HEAD}) replaces the last layer", program.output, "a new head");
            return Err(Problem::graph(format!("output `{}`", content.file.output), expected, found));
        }
        Ok(program)
    }
}

impl Model for OnnxModel {
    fn name(&self) -> String {
        format!("{}{}", self.path.display(), if self.new_head { NEW_HEAD } else { "" })
    }

    fn published(&self) -> ([usize; 3], usize) {
        let dims = self.loaded().ok().and_then(|content| content.file.dims.clone());
        match dims.as_deref() {
            Some(&[Some(c), Some(h), Some(w)]) => {
                let outputs = lower(&self.loaded().expect("loaded above").file, &[h, w, c]).map(|p| p.output);
                ([h, w, c], outputs.ok().and_then(|output| output.first().copied()).unwrap_or(10))
            }
            _ => ([32, 32, 3], 10),
        }
    }

    fn build(
        &self,
        store: &mut Store,
        input: &[usize],
        outputs: usize,
        config: &QuantConfig,
    ) -> autograd::Result<Sequential> {
        let program = self.program(input, outputs).map_err(|problem| {
            autograd::Error::setting("model", "an ONNX file of a network that can be trained", self.wrong(problem))
        })?;
        Ok(Sequential::new().push(program.build(store, config)?))
    }
}

/// Reads a model from the text that recipes have for it.
///
/// # Errors
/// It is no path of an ONNX file.
pub fn model(text: &str) -> autograd::Result<ModelSpec> {
    let none = || Err(autograd::Error::setting("model", KIND.form, text));
    (KIND.parse)(text).unwrap_or_else(none)
}
