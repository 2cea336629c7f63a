//! What a power cut leaves of each write, and what a failure of each operation leaves.

use super::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

thread_local! {
    static DONE: RefCell<Vec<(Operation, PathBuf)>> = const { RefCell::new(Vec::new()) };
    /// The operation that fails next, counted from 0, and how.
    static FAILS: Cell<Option<(usize, ErrorKind)>> = const { Cell::new(None) };
}

/// Takes note of an operation, or lets it fail.
pub(super) fn begin(operation: Operation, path: &Path) -> io::Result<()> {
    let at = DONE.with_borrow(Vec::len);
    match FAILS.get() {
        Some((fails, kind)) if fails == at => Err(kind.into()),
        _ => {
            DONE.with_borrow_mut(|done| done.push((operation, path.to_path_buf())));
            Ok(())
        }
    }
}

/// The operations of `work`, which the one of this number ends.
fn recorded<T>(fails: Option<(usize, ErrorKind)>, work: impl FnOnce() -> T) -> (T, Vec<(Operation, PathBuf)>) {
    DONE.take();
    FAILS.set(fails);
    let result = work();
    FAILS.set(None);
    (result, DONE.take())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Content that may be on a disk: `None` is what a power cut leaves of data that were never flushed.
type Disk = BTreeMap<PathBuf, Option<&'static str>>;

/// Every state that a power cut may leave: after any number of operations, of those on names since the last flush of the
/// folder any may have reached the disk, and of unflushed data nothing.
fn states_after_a_cut(before: &Disk, path: &Path, done: &[(Operation, PathBuf)]) -> Vec<Disk> {
    let mut states = Vec::new();
    for count in 0..=done.len() {
        let done = &done[..count];
        let flushed = done.iter().rposition(|(o, _)| *o == Operation::SyncFolder).unwrap_or(0);
        let pending: Vec<usize> = (flushed..count).collect();
        for mask in 0..1u32 << pending.len() {
            let mut disk = before.clone();
            let (mut inode, mut part) = (None, None);
            for (i, (operation, at)) in done.iter().enumerate() {
                let reached = i < flushed || mask >> (i - flushed) & 1 == 1;
                match operation {
                    Operation::Create => part = Some(at),
                    Operation::Sync => inode = Some("new"),
                    Operation::Remove if reached => drop(disk.remove(at)),
                    Operation::Link if reached => {
                        if let Some(&kept) = before.get(path) {
                            disk.insert(at.clone(), kept);
                        }
                    }
                    Operation::Rename if reached => drop(disk.insert(at.clone(), inode)),
                    _ => {}
                }
            }
            assert!(part.is_some() || count == 0);
            states.push(disk);
        }
    }
    states
}

#[test]
fn a_power_cut_leaves_a_whole_file_under_every_name() {
    let folder = tempfile::tempdir().unwrap();
    let [path, previous] = ["file", "file.previous"].map(|name| folder.path().join(name));
    let old: Disk = [(path.clone(), Some("old"))].into();
    let older: Disk = [(path.clone(), Some("old")), (previous.clone(), Some("older"))].into();
    let keeping = || replace_keeping(&path, &previous, |f| f.write_all(b"new"));
    let ways: [(&str, &Disk, &dyn Fn()); 4] = [
        ("write", &Disk::new(), &|| write(&path, b"new").unwrap()),
        ("replace", &old, &|| write(&path, b"new").unwrap()),
        ("begin a log", &old, &|| drop(begin_log(&path, b"new").unwrap())),
        ("replace and keep", &older, &|| keeping().unwrap()),
    ];
    for (way, before, work) in ways {
        for (name, content) in before {
            fs::write(name, content.unwrap()).unwrap();
        }
        let ((), done) = recorded(None, work);
        let states = states_after_a_cut(before, &path, &done);
        assert!(states.len() > 8, "{way}: {}", states.len());
        for disk in &states {
            assert!(disk.values().all(Option::is_some), "{way}: an empty file in {disk:?}");
            assert!(before.is_empty() || disk.contains_key(&path), "{way}: {disk:?}");
        }
        // The last state is that of a cut after the function returned: nothing is pending.
        assert_eq!(done.last().unwrap().0, Operation::SyncFolder, "{way}");
        assert_eq!(states.last().unwrap()[&path], Some("new"), "{way}");
        assert_eq!(fs::read(&path).unwrap(), b"new", "{way}");
    }
    assert_eq!(fs::read(&previous).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["file", "file.previous"]);
}

/// Event files and locks begin empty under a free name, which has to be on the disk when the function returns.
#[test]
fn a_new_log_and_a_new_lock_have_their_names_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let ways: [fn(&Path) -> io::Result<File>; 2] = [create_log, open_lock];
    for (i, way) in ways.into_iter().enumerate() {
        let path = folder.path().join(i.to_string());
        let (file, done) = recorded(None, || way(&path));
        file.unwrap();
        let expected = [(Operation::Create, path.clone()), (Operation::SyncFolder, folder.path().to_path_buf())];
        assert_eq!(done, expected);
        let failing = folder.path().join(format!("{i} fails"));
        let (result, _) = recorded(Some((1, ErrorKind::StorageFull)), || way(&failing));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
    }
}

#[test]
fn an_unflushed_rename_would_be_found() {
    let path = Path::new("file");
    let done = [Operation::Create, Operation::Write, Operation::Rename].map(|o| (o, path.to_path_buf()));
    assert!(states_after_a_cut(&Disk::new(), path, &done).iter().any(|disk| disk.get(path) == Some(&None)));
}

#[test]
fn an_operation_that_fails_is_an_error_and_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let [path, previous] = ["file", "file.previous"].map(|name| folder.path().join(name));
    let work = || replace_keeping(&path, &previous, |f| f.write_all(b"new"));
    fs::write(&path, "old").unwrap();
    let count = recorded(None, work).1.len();
    assert_eq!(count, 7);
    for at in 0..count {
        fs::write(&path, "old").unwrap();
        let (result, done) = recorded(Some((at, ErrorKind::StorageFull)), work);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull, "{done:?}");
        // Only the flush of the folder comes after the new file has its name.
        assert_eq!(fs::read(&path).unwrap(), if at + 1 < count { &b"old"[..] } else { b"new" }, "{done:?}");
        assert!(names(folder.path()).iter().all(|name| !name.ends_with(UNFINISHED)), "{done:?}");
    }
    // A system without a flush for folders.
    for kind in [ErrorKind::InvalidInput, ErrorKind::Unsupported] {
        recorded(Some((count - 1, kind)), work).0.unwrap();
    }
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let [path, precious, missing] = ["file", "precious", "missing"].map(|name| folder.path().join(name));
    fs::write(&precious, "precious").unwrap();
    for target in [&precious, &missing] {
        let ways: [&dyn Fn() -> io::Result<()>; 3] = [
            &|| write(&path, b"new"),
            &|| replace_keeping(&path, &folder.path().join("previous"), |f| f.write_all(b"new")),
            &|| begin_log(&path, b"ne")?.write_all(b"w"),
        ];
        for way in ways {
            remove(&path).unwrap();
            symlink(target, &path).unwrap();
            way().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        }
        remove(&path).unwrap();
        symlink(target, &path).unwrap();
        let e = open_lock(&path).unwrap_err().to_string();
        assert!(e.contains("found a symbolic link"), "{e}");
        assert!(refuse_link(&path).is_err());
    }
    // A log that shares its bytes with a copy of the folder leaves the copy alone.
    remove(&path).unwrap();
    fs::hard_link(&precious, &path).unwrap();
    begin_log(&path, b"log").unwrap().write_all(b" goes on").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"log goes on");
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert!(!missing.exists());
}

#[test]
fn only_files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    for result in [write(&taken, b"new"), open_lock(&taken).map(drop)] {
        assert!(result.unwrap_err().to_string().contains("expected a file"));
    }
    assert!(write(&folder.path().join(".."), b"new").is_err());
    assert_eq!(write(&folder.path().join("none/x"), b"").unwrap_err().kind(), ErrorKind::NotFound);
    // A name as long as the system allows.
    let long = folder.path().join("n".repeat(255));
    write(&long, b"new").unwrap();
    assert_eq!(fs::read(&long).unwrap(), b"new");
    if cfg!(unix) {
        assert!(write(Path::new("/dev/null"), b"new").is_err());
    }
    let lock = folder.path().join("lock");
    drop(open_lock(&lock).unwrap());
    fs::write(&lock, "mine").unwrap();
    drop(open_lock(&lock).unwrap());
    assert_eq!(fs::read(&lock).unwrap(), b"mine");
}

#[test]
fn only_what_is_left_of_the_same_file_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let left = ["file.abcdefABCDEF.part", "file.012345678901.part"];
    let others = ["file", "file.part", "file.abcdefABCDE.part", "file.abcdef-BCDEF.part", "other.abcdefABCDEF.part"];
    for name in left.iter().chain(&others) {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    remove_unfinished(&folder.path().join("file")).unwrap();
    let mut expected = others.to_vec();
    expected.sort_unstable();
    assert_eq!(names(folder.path()), expected);
    // The names that are drawn are of this form.
    let random = Unfinished::new(&folder.path().join("file"), |_| Ok(())).unwrap();
    std::mem::forget(random.file.into_temp_path().keep().unwrap());
    assert_eq!(names(folder.path()).len(), others.len() + 1);
    remove_unfinished(&folder.path().join("file")).unwrap();
    assert_eq!(names(folder.path()), expected);
}

#[test]
fn folders_are_made_and_flushed_from_the_top() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    let (result, done) = recorded(None, || create_folder(&inner));
    result.unwrap();
    assert!(inner.is_dir());
    if cfg!(unix) {
        let flushed: Vec<_> = done.into_iter().map(|(_, path)| path).collect();
        assert_eq!(flushed, [folder.path().to_path_buf(), folder.path().join("a")]);
    }
    create_folder(&inner).unwrap();
}
