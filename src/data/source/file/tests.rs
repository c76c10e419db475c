//! Owns the unit tests of `source`.

use super::*;

const JPEG_HEAD: &[u8] = b"\xFF\xD8\xFF\xE0 not really";

fn put(root: &Path, name: &str) {
    std::fs::write(root.join(name), JPEG_HEAD).unwrap();
}

#[test]
fn reading_refuses_what_it_must() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "x.NEF");
    put(root.path(), "x.jpg");
    let uri = |name: &str| uri::of_path(&root.path().join(name));
    let small = Limits { file_bytes_max: 5, ..Limits::default() };
    let reason = |name: &str, limits: &Limits| read(&uri(name), limits).unwrap_err().message;
    assert!(reason("x.NEF", &Limits::default()).contains("camera raw (NEF)"));
    assert!(reason("x.jpg", &small).contains("limit of 5"));
    assert!(reason("gone.jpg", &small).contains("No such file"));
    assert!(reason("", &small).contains("not a regular file"));
    assert!(read("x.jpg", &small).is_err());
}
