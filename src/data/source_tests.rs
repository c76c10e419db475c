//! Owns the unit tests of `source`. Must not know: decoders.

use std::os::unix::fs::symlink;

use super::*;

const JPEG_HEAD: &[u8] = b"\xFF\xD8\xFF\xE0 not really";

fn put(root: &Path, name: &[u8]) {
    let path = root.join(OsStr::from_bytes(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, JPEG_HEAD).unwrap();
}

fn keys(walk: &mut Walk) -> Vec<String> {
    walk.by_ref().map(|found| found.unwrap().key).collect()
}

#[test]
fn order_is_by_components_then_bytes() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a/z.jpg", "a.jpg", "a-b/1.png", "B.JPEG", "a/b/c.webp", "a/B.gif", "é.jpg"] {
        put(root.path(), name.as_bytes());
    }
    put(root.path(), b"bad\xFF.jpg");
    let mut walk = walk(&[root.path().to_path_buf()]).unwrap();
    let expected =
        ["B.JPEG", "a/B.gif", "a/b/c.webp", "a/z.jpg", "a-b/1.png", "a.jpg", "bad%FF.jpg", "é.jpg"];
    assert_eq!(keys(&mut walk), expected);
    assert_eq!(walk.skipped().total(), 0);
}

#[test]
fn uris_lead_back_to_the_file() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), b"new\nline %41 \xFF.jpg");
    let found = walk(&[root.path().to_path_buf()]).unwrap().next().unwrap().unwrap();
    assert!(found.uri.starts_with("file:///") && found.uri.is_ascii());
    assert_eq!(found.bytes, JPEG_HEAD.len() as u64);
    assert_eq!(read(&found.uri, &Limits::default()).unwrap(), JPEG_HEAD);
    assert_eq!(found.key, "new\nline %41 %FF.jpg");
}

#[test]
fn a_file_is_its_own_key_and_labels_are_first_folders() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), b"cat/x.txt");
    let mut walk = walk(&[root.path().join("cat/x.txt")]).unwrap();
    assert_eq!(keys(&mut walk), ["x.txt"]);
    assert_eq!(label("x.txt"), None);
    assert_eq!(label("cat/sub/x.txt"), Some("cat"));
}

#[test]
fn same_and_nested_inputs_are_errors() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), b"a/b/x.jpg");
    symlink(root.path().join("a"), root.path().join("other")).unwrap();
    let at = |name: &str| root.path().join(name);
    let message = |inputs: &[PathBuf]| walk(inputs).unwrap_err().to_string();
    assert!(message(&[at("a"), at("a/b")]).contains("a/b lies inside"));
    assert!(message(&[at("a/b/x.jpg"), at("a")]).contains("x.jpg lies inside"));
    assert!(message(&[at("a"), at("other")]).contains("same place"));
    assert!(message(&[at("nowhere")]).contains("nowhere"));
    assert!(walk(&[]).is_err());
    put(root.path(), b"ab/x.jpg");
    assert!(walk(&[at("a"), at("ab")]).is_ok());
}

#[test]
fn what_is_passed_over_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    put(root.path(), b"x.jpg");
    put(root.path(), b"noext");
    put(root.path(), b"notes.txt");
    fs::write(at("README"), "words").unwrap();
    fs::write(at("photo.heic"), "words").unwrap();
    put(outside.path(), b"far/y.jpg");
    symlink(root.path(), at("loop")).unwrap();
    symlink("/", at("slash")).unwrap();
    symlink(at("x.jpg"), at("again.jpg")).unwrap();
    symlink("self.jpg", at("self.jpg")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink(outside.path(), at("out")).unwrap();
    symlink(outside.path().join("far"), at("out2")).unwrap();
    let fifo = std::ffi::CString::new(at("pipe.jpg").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a valid C string that lives through the call.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);

    let mut walk = walk(&[root.path().to_path_buf()]).unwrap();
    assert_eq!(keys(&mut walk), ["noext", "out/far/y.jpg", "photo.heic", "self.jpg", "x.jpg"]);
    let skipped = walk.skipped();
    assert_eq!(skipped.other_extension, 1);
    assert_eq!(skipped.no_extension, 1);
    assert_eq!(skipped.not_regular, 1);
    assert_eq!(skipped.links_inside, 2);
    assert_eq!(skipped.link_loops, 2);
    assert_eq!(skipped.broken_links, 1);
    assert_eq!(skipped.total(), 8);
}

#[test]
fn reading_refuses_what_it_must() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), b"x.NEF");
    put(root.path(), b"x.jpg");
    let uri = |name: &str| uri::of_path(&root.path().join(name));
    let small = Limits { file_bytes_max: 5, ..Limits::default() };
    let reason = |name: &str, limits: &Limits| read(&uri(name), limits).unwrap_err().message;
    assert!(reason("x.NEF", &Limits::default()).contains("camera raw (NEF)"));
    assert!(reason("x.jpg", &small).contains("limit of 5"));
    assert!(reason("gone.jpg", &small).contains("No such file"));
    assert!(reason("", &small).contains("not a regular file"));
    assert!(read("x.jpg", &small).is_err());
}
