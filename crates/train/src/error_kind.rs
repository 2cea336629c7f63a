//! Kinds of errors, for programs that act on some of them.

use crate::Error;

/// What an [`Error`] is about, whichever crate it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, a recipe or an argument.
    Setting,
    /// The samples of a data set or their targets.
    Data,
    /// The shape of an array or a value.
    Shape,
    /// A number that has to be finite.
    NotFinite,
    /// A checkpoint or the numbers in it.
    Checkpoint,
    /// The folder of a run.
    Run,
    /// An export or an import.
    Export,
    /// Reading or writing a file.
    File,
    /// Memory that would be too much.
    Memory,
}

impl Error {
    /// Returns what the error is about.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nn(e) => of_nn(e),
            Self::Export(e) => of_export(e),
            Self::Data(e) => of_data(e),
            Self::Io { .. } => ErrorKind::File,
            Self::NoRecipe { .. } | Self::Recipe { .. } | Self::Setting { .. } => ErrorKind::Setting,
            Self::Within { source, .. } => source.kind(),
            _ => ErrorKind::Run,
        }
    }
}

fn of_tensor(e: &fixnet_tensor::Error) -> ErrorKind {
    match e {
        fixnet_tensor::Error::Shape { .. } => ErrorKind::Shape,
        fixnet_tensor::Error::Memory { .. } => ErrorKind::Memory,
        _ => ErrorKind::Setting,
    }
}

fn of_graph(e: &fixnet_autograd::Error) -> ErrorKind {
    use fixnet_autograd::Error as Graph;
    match e {
        Graph::Tensor(e) => of_tensor(e),
        Graph::Layer { source, .. } => of_graph(source),
        Graph::NonFinite { .. } => ErrorKind::NotFinite,
        Graph::Label { .. } => ErrorKind::Data,
        Graph::State { .. } | Graph::Stored { .. } => ErrorKind::Checkpoint,
        _ => ErrorKind::Setting,
    }
}

fn of_data(e: &fixnet_data::DataError) -> ErrorKind {
    match e {
        fixnet_data::DataError::Io { .. } => ErrorKind::File,
        fixnet_data::DataError::Memory(e) => of_tensor(e),
        fixnet_data::DataError::Source { .. } => ErrorKind::Setting,
        _ => ErrorKind::Data,
    }
}

fn of_nn(e: &fixnet_nn::Error) -> ErrorKind {
    use fixnet_nn::Error as Nn;
    match e {
        Nn::Graph(e) => of_graph(e),
        Nn::Tensor(e) => of_tensor(e),
        Nn::Data(e) => of_data(e),
        Nn::NotFinite { .. } => ErrorKind::NotFinite,
        Nn::Io { .. } | Nn::Save { .. } | Nn::Unreadable { .. } => ErrorKind::File,
        _ => ErrorKind::Checkpoint,
    }
}

fn of_export(e: &fixnet_export::Error) -> ErrorKind {
    match e {
        fixnet_export::Error::Nn(e) => of_nn(e),
        fixnet_export::Error::Write { .. } => ErrorKind::File,
        _ => ErrorKind::Export,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn a_kind_is_that_of_the_innermost_error() {
        let unknown = Settings::find("no-such-recipe").unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Setting);
        assert_eq!(unknown.within("here").kind(), ErrorKind::Setting);
        let shape = fixnet_tensor::Error::shape("op", "[1]", &[2]);
        let layer = fixnet_autograd::Error::from(shape).in_layer("fc1");
        assert_eq!(Error::from(layer).within("there").kind(), ErrorKind::Shape);
        let missing = fixnet_nn::Error::Io { path: "x".into(), source: std::io::ErrorKind::NotFound.into() };
        assert_eq!(Error::from(missing).kind(), ErrorKind::File);
    }
}
