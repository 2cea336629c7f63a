//! Checkpoints that survive: damage is found wherever it is and named, the previous one takes over, equal state gives equal
//! files, and a header's claims take no memory.

use fixnet_autograd::{Array, Store};
use fixnet_fuzz as fuzz;
use fixnet_nn::checkpoint::{self, Best, Checkpoint, Header, Pretrained, Progress, TensorFile, previous_path};
use fixnet_nn::layers::{BatchNorm2d, Linear};
use fixnet_nn::optim::{Optimizer, OptimizerConfig};
use fixnet_nn::{Error, Problem};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn progress() -> Progress {
    Progress { epoch: 3, batches: 7, seen: 448, sums: vec![400.0], loss_sum: 1.25, best: None }
}

fn model(seed: u64, bits: &str, outputs: usize) -> (Store, Optimizer) {
    fill(Store::seeded(seed), bits, outputs)
}

fn fill(mut store: Store, bits: &str, outputs: usize) -> (Store, Optimizer) {
    let q = QuantConfig::new(bits.parse().unwrap());
    Linear::quantized(&mut store, "a", [6, 5], &q).unwrap();
    BatchNorm2d::new(&mut store, "bn", 5).unwrap();
    Linear::quantized(&mut store, "b", [5, outputs], &q).unwrap();
    (store, Optimizer::new(OptimizerConfig { total_steps: 9, ..OptimizerConfig::default() }).unwrap())
}

fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("config".into(), "lr = 0.5\n# größer\n".into()), ("kind".into(), "test".into())])
}

fn saved(folder: &Path) -> PathBuf {
    let (store, sgd) = model(1, "4/4/4", 3);
    let path = folder.join("c.safetensors");
    checkpoint::save(&path, &store, &sgd, &progress(), &metadata()).unwrap();
    path
}

#[test]
fn everything_comes_back_and_equal_state_gives_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(*checkpoint.progress(), progress());
    let (mut store, mut sgd) = model(1, "4/4/4", 3);
    let before = checkpoint::digest(&store, &sgd);
    let id = store.ids().next().unwrap();
    store.param_mut(id).value = Tensor::zeros(&[5, 6]);
    assert_ne!(checkpoint::digest(&store, &sgd), before);
    checkpoint.restore(&mut store, Some(&mut sgd)).unwrap();
    assert_eq!(checkpoint::digest(&store, &sgd), before);
    let again = folder.path().join("again.safetensors");
    checkpoint::save(&again, &store, &sgd, &progress(), &metadata()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());
    // Other readers take it: the safetensors crate checks offsets and alignment of its own accord.
    let bytes = fs::read(&path).unwrap();
    let other = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(other.tensor("a.weight").unwrap().shape(), [5, 6]);
    for t in Header::read(&path).unwrap().tensors {
        assert_eq!(t.bytes.start % if t.dtype == "U64" { 8 } else { 4 }, 0, "{}", t.name);
    }
}

/// The best epoch is in the file and not in the digest; a file without one is as it was before there was any.
#[test]
fn the_best_epoch_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let plain = saved(folder.path());
    assert!(Header::read(&plain).unwrap().tensors.iter().all(|t| t.name != "run.best"));
    let (store, sgd) = model(1, "4/4/4", 3);
    let digest = checkpoint::digest(&store, &sgd);
    for best in [
        Best { value: 0.1 + 0.2, epoch: 2, waited: 1, stopped: false },
        Best { value: -1e300, epoch: u32::MAX, waited: 0, stopped: true },
    ] {
        let (path, with) = (folder.path().join("best.safetensors"), Progress { best: Some(best), ..progress() });
        checkpoint::save_single(&path, &store, &sgd, &with, &metadata()).unwrap();
        checkpoint::save_single(&path, &store, &sgd, &with, &metadata()).unwrap();
        assert!(!previous_path(&path).exists());
        let found = Checkpoint::open(&path).unwrap();
        assert_eq!(*found.progress(), with);
        let (mut store, mut sgd) = model(1, "4/4/4", 3);
        found.restore(&mut store, Some(&mut sgd)).unwrap();
        assert_eq!(checkpoint::digest(&store, &sgd), digest);
    }
    // Written by someone who knows the checksum.
    let words = |value: f64, stopped: u64| Array::U64(vec![value.to_bits(), 1, 0, stopped]);
    for odd in [words(f64::NAN, 0), words(1.0, 2), Array::U64(vec![1]), Array::U64(vec![0, 1 << 32, 0, 0])] {
        let path = folder.path().join("odd.safetensors");
        let mut arrays = store.state_dict();
        arrays.push(("run.best".into(), odd));
        arrays.push(("run.progress".into(), Array::U64(vec![0; 4])));
        arrays.push(("run.seed_and_step".into(), Array::U64(vec![1, 0])));
        TensorFile::save(&path, &arrays, &metadata()).unwrap();
        let e = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(e.contains("odd.safetensors") && e.contains("`run.best`"), "{e}");
    }
}

#[test]
fn the_one_before_is_kept_and_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let first = fs::read(&path).unwrap();
    let (store, sgd) = model(1, "4/4/4", 3);
    for batches in [8, 9] {
        checkpoint::save(&path, &store, &sgd, &Progress { batches, ..progress() }, &metadata()).unwrap();
    }
    assert_ne!(fs::read(&path).unwrap(), first);
    let open = || Checkpoint::open_or_previous(&path);
    assert!(matches!(open(), Ok((c, None)) if c.progress().batches == 9));
    fs::write(&path, &first[..first.len() - 1]).unwrap();
    let (checkpoint, problem) = open().unwrap();
    assert_eq!((checkpoint.progress().batches, checkpoint.path()), (8, previous_path(&path).as_path()));
    let problem = problem.unwrap().to_string();
    assert!(problem.contains("c.safetensors: not a usable checkpoint: cut short or damaged: expected"), "{problem}");
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(), Ok((c, Some(Error::Io { .. }))) if c.progress().batches == 8));
    fs::write(previous_path(&path), b"{}").unwrap();
    let both = open().unwrap_err().to_string();
    assert!(both.contains("c.safetensors: ") && both.contains("c.previous.safetensors: "), "{both}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["c.previous.safetensors"]);
}

/// What cannot be opened may be whole: going on from the previous one would take its steps again.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_opened_is_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    fs::rename(&path, previous_path(&path)).unwrap();
    // A link to itself cannot be opened by anyone, not even by root.
    std::os::unix::fs::symlink("c.safetensors", &path).unwrap();
    let e = Checkpoint::open_or_previous(&path).unwrap_err();
    assert!(matches!(&e, Error::Unreadable { previous, .. } if *previous == previous_path(&path)), "{e}");
    let text = e.to_string();
    assert!(text.contains("c.safetensors: could not be read") && text.contains("c.previous.safetensors"), "{text}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let e = Checkpoint::open_or_previous(&path).unwrap_err();
    assert!(matches!(e, Error::Unreadable { .. }) && e.to_string().contains("found a folder"), "{e}");
}

#[test]
fn a_file_cut_short_anywhere_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let whole = fs::read(&path).unwrap();
    let mut cuts = 0;
    for length in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        let e = Checkpoint::open(&path).unwrap_err();
        assert!(e.to_string().contains("c.safetensors: not a usable checkpoint: cut short"), "{length}: {e}");
        cuts += 1;
    }
    assert!(cuts > 100);
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert!(matches!(Checkpoint::open(&path), Err(Error::Checkpoint { problem: Problem::DataLength { .. }, .. })));
}

#[test]
fn a_flipped_bit_anywhere_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at * 5 % 8);
        fs::write(&path, &bytes).unwrap();
        let e = Checkpoint::open(&path).expect_err(&format!("byte {at} of {}", whole.len()));
        assert!(matches!(e, Error::Checkpoint { .. }), "{at}: {e}");
        assert!(e.to_string().contains("c.safetensors"), "{at}: {e}");
    }
}

/// A file with this header, and `data` bytes after it.
fn file_of(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn claims_beyond_the_file_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claims.safetensors");
    let tensor = |shape: &str, end: u64| {
        format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[0,{end}]}}}}")
    };
    let cases = [
        (u64::MAX.to_le_bytes().to_vec(), "the header claims 18446744073709551615 bytes, expected at most 0"),
        ([&(1u64 << 40).to_le_bytes()[..], b"{}"].concat(), "claims 1099511627776 bytes, expected at most 2"),
        (file_of(&tensor("1099511627776", 1 << 42), 8), "expected 4398046511104 bytes after the header, found 8"),
        (file_of(&tensor("4294967296,4294967296,4", 16), 16), "header: overflow"),
        (file_of(&tensor("3", 16), 16), "header: invalid shape"),
        (file_of(&tensor("2", 8), 0), "expected 8 bytes after the header, found 0"),
        (file_of("{\"w\":1}", 0), "header"),
        (file_of("", 0), "header"),
        (b"PK\x03\x04".to_vec(), "found a zip archive"),
        (b"text".to_vec(), "expected at least 8 bytes, found 4"),
    ];
    for (bytes, words) in cases {
        fs::write(&path, bytes).unwrap();
        for e in [Header::read(&path).unwrap_err(), TensorFile::read(&path).unwrap_err()] {
            let e = e.to_string();
            assert!(e.contains("claims.safetensors: ") && e.contains(words), "`{words}` is not in: {e}");
        }
    }
    // A header longer than any that is read, in a file that really has those bytes (a hole on the disk).
    let file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut &file, &(1u64 << 33).to_le_bytes()).unwrap();
    file.set_len(8 + (1 << 33)).unwrap();
    let e = Header::read(&path).unwrap_err().to_string();
    assert!(e.contains("expected at most 16777216"), "{e}");
    let e = Header::read(folder.path()).unwrap_err();
    assert!(
        matches!(e, Error::Io { .. }) && e.to_string().ends_with(": expected a regular file, found a folder"),
        "{e}"
    );
}

/// Opens the file and, if its checksum alone is wrong, opens it again with the right one.
fn open_signed(path: &Path, file: Vec<u8>) -> fixnet_nn::Result<Checkpoint> {
    fs::write(path, &file).unwrap();
    match fuzz::within(fuzz::MOST, || Checkpoint::open(path)) {
        Err(Error::Checkpoint { problem: Problem::Checksum { expected, found }, .. }) => {
            fs::write(path, fuzz::resigned(file, &expected, &found)).unwrap();
            fuzz::within(fuzz::MOST, || Checkpoint::open(path))
        }
        other => other,
    }
}

#[test]
fn a_checksum_that_is_put_right_lets_other_damage_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let mut file = fs::read(&path).unwrap();
    *file.last_mut().unwrap() ^= 1;
    let (mut store, _) = model(1, "4/4/4", 3);
    open_signed(&path, file).unwrap().restore(&mut store, None).unwrap();
}

proptest! {
    #![proptest_config(fuzz::config())]

    #[test]
    fn damaged_files_never_panic(damage in fuzz::damage(), signed: bool, foreign: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let mut file = fs::read(&path).unwrap();
        if foreign {
            // A file of another program has no checksum.
            file = file_of("{\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},\"v\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}", 32);
        }
        let file = fuzz::damaged(file, &damage);
        if signed {
            if let Ok(checkpoint) = open_signed(&path, file) {
                let (mut store, mut sgd) = model(1, "4/4/4", 3);
                let _ = fuzz::within(fuzz::MOST, || checkpoint.restore(&mut store, Some(&mut sgd)));
            }
            return Ok(());
        }
        fs::write(&path, &file).unwrap();
        if let Ok(weights) = fuzz::within(fuzz::MOST, || Pretrained::open(&path)) {
            let (mut store, _) = fill(weights.begin(Store::seeded(1)), "4/4/4", 3);
            let _ = weights.finish(&mut store);
        }
    }

    #[test]
    fn random_bytes_never_panic(
        file in fuzz::random(&[b"", b"\x02\0\0\0\0\0\0\0{}", b"\x10\0\0\0\0\0\0\0{\"__metadata__\":"]),
        header in "[\\[\\]{}:,\"a-z0-9]{0,80}",
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.safetensors");
        for content in [file, file_of(&header, 4)] {
            fs::write(&path, content).unwrap();
            prop_assert!(fuzz::within(fuzz::MOST, || Checkpoint::open(&path)).is_err());
            let _ = fuzz::within(fuzz::MOST, || Pretrained::open(&path));
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let refused = |(mut store, mut sgd): (Store, Optimizer)| {
        checkpoint.restore(&mut store, Some(&mut sgd)).unwrap_err().to_string()
    };
    assert!(refused(model(2, "4/4/4", 3)).contains("it belongs to seed 1, this model to seed 2"));
    let e = refused(model(1, "4/4/4", 4));
    assert!(e.contains("state `b.weight`: expected f32 [4, 5], found f32 [3, 5]"), "{e}");
    // What the model has no place for is as wrong as what it lacks.
    let e = refused(model(1, "32/32/32", 3));
    assert!(e.contains("state `a.gradient.started`: expected none of that name, found u64 [1]"), "{e}");
    let e = refused((model(1, "4/4/4", 3).0, Optimizer::new("sgdt".parse().unwrap()).unwrap()));
    assert!(e.contains("state `optimizer."), "{e}");
    // The numbers of the network do not depend on the seed; a run that goes on does.
    for seed in [1, 2] {
        let mut store = model(seed, "4/4/4", 3).0;
        checkpoint.restore(&mut store, None).unwrap();
        let weight = |store: &Store| store.params().iter().find(|p| p.name() == "a.weight").unwrap().value.clone();
        assert_eq!(weight(&store).data(), weight(&model(1, "4/4/4", 3).0).data());
    }
    let foreign = folder.path().join("foreign.safetensors");
    fs::write(&foreign, file_of("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4)).unwrap();
    assert!(Checkpoint::open(&foreign).unwrap_err().to_string().contains("found none; fixnet did not write it"));
    assert_eq!(TensorFile::read(&foreign).unwrap().floats()["w"].data(), [0.0]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let before = fs::read(&path).unwrap();
    let (store, sgd) = model(1, "4/4/4", 3);
    // A folder is in the way of the name that the last one gets.
    fs::create_dir(previous_path(&path)).unwrap();
    let e = checkpoint::save(&path, &store, &sgd, &progress(), &metadata()).unwrap_err().to_string();
    assert!(e.contains("c.safetensors: the checkpoint could not be written"), "{e}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_quantized_model_starts_from_float_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("float.safetensors");
    let (mut float, sgd) = model(1, "32/32/32", 3);
    let first = float.ids().next().unwrap();
    float.param_mut(first).value = Tensor::from_vec(&[5, 6], (0..30).map(|i| i as f32 - 14.5).collect()).unwrap();
    for (_, stats) in float.states_mut::<fixnet_autograd::ops::RunningStats>() {
        let five = Tensor::full(&[5], 5.0);
        fixnet_autograd::State::load(stats, &mut |_| Some(fixnet_autograd::Array::F32(five.clone()))).unwrap();
    }
    checkpoint::save(&path, &float, &sgd, &progress(), &metadata()).unwrap();

    let weights = Pretrained::open(&path).unwrap();
    let (mut store, _) = fill(weights.begin(Store::seeded(9)), "2/2/32", 4);
    let taken = weights.finish(&mut store).unwrap();
    let find = |name: &str| store.params().iter().find(|p| p.name() == name).unwrap().value.clone();
    assert_eq!(find("a.weight").data(), float.params()[0].value.data());
    // The scale follows from the weight that was taken: the numbers -14.5 to 14.5 have the variance (30² - 1)/12.
    approx::assert_relative_eq!(find("a.weight.scale").item(), 3.0 * (899.0f32 / 12.0).sqrt(), epsilon = 1e-4);
    let statistics = store.state_dict().into_iter().find(|(name, _)| name == "bn.running_var").unwrap().1;
    assert!(matches!(statistics, fixnet_autograd::Array::F32(t) if t.data() == [5.0; 5]));
    // Weights alone are as good a start as the checkpoint.
    Pretrained::of(&float).save(&path, &metadata()).unwrap();
    assert_eq!(Header::read(&path).unwrap().tensors.len(), 4 + 2 + 2);
    let weights = Pretrained::open(&path).unwrap();
    let (mut again, _) = fill(weights.begin(Store::seeded(9)), "2/2/32", 4);
    assert_eq!(weights.finish(&mut again).unwrap(), taken);
    assert_eq!(checkpoint::digest(&again, &sgd), checkpoint::digest(&store, &sgd));
    // Numbers that no weights have are refused, by name.
    for (name, value, message) in [
        ("bn.running_var", -1.0, "`bn.running_var`: expected a finite number of at least 0, found -1 at 2"),
        ("bn.running_var", f32::NAN, "`bn.running_var`: expected a finite number of at least 0, found NaN at 2"),
        ("a.bias", f32::NEG_INFINITY, "`a.bias`: expected a finite number, found -inf at 2"),
    ] {
        let mut floats = TensorFile::read(&path).unwrap().floats();
        floats.get_mut(name).unwrap().data_mut()[2] = value;
        let odd = folder.path().join("odd.safetensors");
        Pretrained::new(floats).save(&odd, &metadata()).unwrap();
        let e = Pretrained::open(&odd).unwrap_err().to_string();
        assert!(e.contains("odd.safetensors") && e.ends_with(message), "{e}");
    }
    // a.weight, a.bias, bn.weight, bn.bias and the statistics; the classifier has another shape.
    assert_eq!(taken.count, 5);
    assert_eq!(taken.missing, ["b.weight [4, 5] (found [3, 5])", "b.bias [4] (found [3])"]);
}

#[test]
fn numbers_that_no_run_has_are_refused_by_tensor_and_element() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let (store, _) = model(1, "4/4/4", 3);
    let optimizer = || Optimizer::new("adamt".parse().unwrap()).unwrap();
    checkpoint::save(&path, &store, &optimizer(), &progress(), &metadata()).unwrap();
    let whole = TensorFile::read(&path).unwrap();
    let names: Vec<String> = whole.header().tensors.iter().map(|t| t.name.clone()).collect();
    let with = |odd: &str, change: &dyn Fn(&mut Array)| {
        let mut arrays: Vec<(String, Array)> = names.iter().map(|n| (n.clone(), whole.array(n).unwrap())).collect();
        change(&mut arrays.iter_mut().find(|(name, _)| name == odd).unwrap().1);
        TensorFile::save(&path, &arrays, &metadata()).unwrap();
        Checkpoint::open(&path).and_then(|c| c.restore(&mut model(1, "4/4/4", 3).0, Some(&mut optimizer())))
    };
    let at_least_0 = "a finite number of at least 0";
    for (name, value, expected) in [
        ("a.weight", f32::NAN, "a finite number"),
        ("b.bias", f32::INFINITY, "a finite number"),
        ("bn.running_mean", f32::NEG_INFINITY, "a finite number"),
        ("bn.running_var", -1.0, at_least_0),
        ("a.weight.scale", 0.0, "a finite number above 0"),
        ("a.weight.scale", f32::NAN, "a finite number above 0"),
        ("b.input.scale", -0.5, at_least_0),
        ("a.gradient.gamma", 1.5, "a number above 0 and up to 1"),
        ("optimizer.adam.exp_avg.a.bias", f32::NAN, "a finite number"),
        ("optimizer.adam.exp_avg_sq.a.bias", -1.0, at_least_0),
        ("optimizer.second.b.input.scale", -1.0, at_least_0),
    ] {
        let change = |array: &mut Array| match array {
            Array::F32(t) => *t.data_mut().last_mut().unwrap() = value,
            Array::U64(_) | Array::I64(_) => panic!("{name} has floats"),
        };
        let Some(Array::F32(tensor)) = whole.array(name) else { panic!("no {name}") };
        let e = with(name, &change).unwrap_err().to_string();
        let words = format!("`{name}`: expected {expected}, found {value} at {}", tensor.len() - 1);
        assert!(e.contains("c.safetensors") && e.ends_with(&words), "{e}");
    }
    for (name, at, value, words) in [
        ("run.progress", 4, f64::NAN, "`run.progress`: expected a finite sum of losses, found NaN at 4"),
        (
            "optimizer.transition",
            0,
            f64::INFINITY,
            "expected finite numbers of at least 0 (as bits of f64), found inf at 0",
        ),
        ("optimizer.transition", 1, -0.5, "expected finite numbers of at least 0 (as bits of f64), found -0.5 at 1"),
    ] {
        let change = |array: &mut Array| match array {
            Array::U64(v) => v[at] = value.to_bits(),
            Array::F32(_) | Array::I64(_) => panic!("{name} has whole numbers"),
        };
        let e = with(name, &change).unwrap_err().to_string();
        assert!(e.contains("c.safetensors") && e.ends_with(words), "{e}");
    }
    with("a.weight", &|_| ()).unwrap();
}

#[test]
fn a_model_that_a_checkpoint_does_not_hold_is_refused_before_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&saved(folder.path())).unwrap();
    fill(checkpoint.expected_in(Store::seeded(1)), "4/4/4", 3);
    let q = QuantConfig::new("4/4/4".parse().unwrap());
    let mut store = checkpoint.expected_in(Store::seeded(1));
    let built = fuzz::within(fuzz::MOST, || Linear::quantized(&mut store, "a", [30_000, 30_000], &q));
    let e = built.unwrap_err().to_string();
    assert!(e.starts_with("state `a.weight`: expected f32 [30000, 30000], found f32 [5, 6] in "), "{e}");
    assert!(e.ends_with("c.safetensors"), "{e}");
}

#[test]
fn a_file_of_holes_is_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holes.safetensors");
    let elements = 5u64 << 30;
    let end = 4 * elements;
    let header = format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{elements}],\"data_offsets\":[0,{end}]}}}}");
    fs::write(&path, file_of(&header, 0)).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(8 + header.len() as u64 + end).unwrap();
    let e = fuzz::within(fuzz::MOST, || TensorFile::read(&path)).unwrap_err().to_string();
    assert!(e.contains("holes.safetensors") && e.contains("claims 21474836480 bytes of memory"), "{e}");
}
