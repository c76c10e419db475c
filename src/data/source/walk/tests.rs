//! Owns the unit tests of `walk`.

use std::os::unix::fs::symlink;

use super::*;
use crate::data::formats::raw_image::Limits;
use crate::data::source::file::read;

const JPEG_HEAD: &[u8] = b"\xFF\xD8\xFF\xE0 not really";

fn put(root: &Path, name: &[u8]) {
    let path = root.join(OsStr::from_bytes(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, JPEG_HEAD).unwrap();
}

fn keys(walk: &mut ImageWalk) -> Vec<String> {
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
fn a_file_is_its_own_key() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), b"cat/x.txt");
    let mut walk = walk(&[root.path().join("cat/x.txt")]).unwrap();
    assert_eq!(keys(&mut walk), ["x.txt"]);
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
fn what_is_hidden_or_a_systems_is_passed_over_unless_it_is_asked_for_or_named() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let names = [
        "cat/00.png",
        "cat/._00.png",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "cat/DESKTOP.INI",
        "@eaDir/cat/00.jpg/SYNOPHOTO_THUMB_M.png",
        "__MACOSX/cat/._00.png",
        ".git/x.png",
        "lost+found/1.png",
        "$RECYCLE.BIN/S-1/2.png",
        "System Volume Information/3.png",
        "#recycle/4.png",
        ".Trash-1000/files/5.png",
        ".ipynb_checkpoints/6.png",
        "cat/.7.png",
    ];
    for name in names {
        put(root.path(), name.as_bytes());
    }
    let mut plain = walk(&[root.path().to_path_buf()]).unwrap();
    assert_eq!(keys(&mut plain), ["cat/00.png"]);
    let skipped = plain.skipped();
    assert_eq!((skipped.hidden, skipped.system, skipped.total()), (6, 8, 14));
    let told = skipped.to_string();
    assert!(told.starts_with("14 skipped (6 hidden, 8 of a system); hidden takes"), "{told}");

    let all = Take { hidden: true, ..Take::default() };
    let mut walked = walk_taking(&[root.path().to_path_buf()], all).unwrap();
    assert_eq!(keys(&mut walked).len(), 13);
    assert_eq!((walked.skipped().other_extension, walked.skipped().hidden), (2, 0));
    // Named by the user, they are taken.
    let named = [at(".git"), at("cat/.7.png"), at("@eaDir")];
    assert_eq!(
        keys(&mut walk(&named).unwrap()),
        ["x.png", ".7.png", "cat/00.jpg/SYNOPHOTO_THUMB_M.png"]
    );
}

#[test]
fn links_into_a_hidden_store_are_followed_since_it_is_not_read_itself() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    put(root.path(), b".store/ab/cd.png");
    put(root.path(), b"plain.png");
    symlink(at(".store/ab/cd.png"), at("one.png")).unwrap();
    symlink(at(".store/ab"), at("two")).unwrap();
    symlink(at("plain.png"), at("again.png")).unwrap();
    let mut plain = walk(&[root.path().to_path_buf()]).unwrap();
    assert_eq!(keys(&mut plain), ["one.png", "plain.png", "two/cd.png"]);
    assert_eq!((plain.skipped().hidden, plain.skipped().links_inside), (1, 1));
    let all = Take { hidden: true, ..Take::default() };
    let mut walked = walk_taking(&[root.path().to_path_buf()], all).unwrap();
    assert_eq!(keys(&mut walked), [".store/ab/cd.png", "plain.png"]);
    assert_eq!(walked.skipped().links_inside, 3);
}

#[test]
fn what_vqtok_wrote_is_no_input_wherever_it_lies_and_however_it_is_led_to() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    put(root.path(), b"x.png");
    let models = [root.path().join("sub/model"), outside.path().join("model")];
    for model in &models {
        put(model, b"samples/step-000100.png");
        fs::write(model.join("config.json"), "{\n  \"format\": \"vqtok.model.v1\"}").unwrap();
    }
    // A training in its first moments, and outputs of every age.
    put(root.path(), b"training/samples/step-000001.png");
    fs::write(at("training/training.jsonl"), "").unwrap();
    put(root.path(), b"training/tensorboard/events.out.tfevents.vqtok");
    put(root.path(), b"out/plan.parquet");
    put(root.path(), b"out/tokens/picture.png");
    fs::create_dir(at("begun")).unwrap();
    fs::write(at("begun/plan.parquet"), b"PAR1 .. vqtok.plan_sha256 .. PAR1").unwrap();
    put(root.path(), b"done/tokens/picture.png");
    put(root.path(), b"done/page.html");
    fs::write(at("done/dataset.json"), "{\n  \"schema\": \"dataset.v1\",").unwrap();
    // Of others, with names like ours.
    for (name, text) in [("config.json", "{\"_class_name\": \"VQModel\"}"), ("dataset.json", "{}")]
    {
        put(root.path(), format!("theirs-{name}/samples/y.png").as_bytes());
        fs::write(at(&format!("theirs-{name}")).join(name), text).unwrap();
    }
    put(root.path(), b"theirs/training.jsonl");
    put(root.path(), b"theirs/plan.parquet");
    put(root.path(), b"theirs/z.png");
    symlink(&models[1], at("link")).unwrap();
    symlink(models[1].join("samples"), at("samples-link")).unwrap();
    symlink(models[1].join("samples/step-000100.png"), at("file-link.png")).unwrap();

    let mut plain = walk(&[root.path().to_path_buf()]).unwrap();
    let expected = [
        "theirs/z.png",
        "theirs-config.json/samples/y.png",
        "theirs-dataset.json/samples/y.png",
        "x.png",
    ];
    assert_eq!(keys(&mut plain), expected);
    assert_eq!(plain.skipped().own, 8);
    for (folder, what) in [("sub/model", "a model folder"), ("out", "an output folder")] {
        let error = walk(&[at(folder)]).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(folder), "{error}");
    }
    // Pictures of a model can be had by naming them.
    assert_eq!(keys(&mut walk(&[at("sub/model/samples")]).unwrap()), ["step-000100.png"]);
    let mut as_before =
        walk_taking(&[root.path().to_path_buf()], Take { own: true, ..Take::default() }).unwrap();
    assert_eq!(keys(&mut as_before).len(), 4 + 6);
}

#[test]
fn pictures_of_a_user_among_what_vqtok_wrote_are_not_lost() {
    let root = tempfile::tempdir().unwrap();
    for name in ["out/mine.png", "model/mine/a.png", "model/samples/step-1.png"] {
        put(root.path(), name.as_bytes());
    }
    let at = |name: &str| root.path().join(name);
    fs::write(at("out/plan.parquet"), b"PAR1 .. vqtok.plan_sha256 .. PAR1").unwrap();
    fs::write(at("model/config.json"), "{\n  \"format\": \"vqtok.model.v1\"}").unwrap();
    let mut walked = walk(&[root.path().to_path_buf()]).unwrap();
    assert_eq!(keys(&mut walked), ["model/mine/a.png", "out/mine.png"]);
    let skipped = walked.skipped();
    assert_eq!((skipped.own, skipped.other_extension, skipped.containers), (1, 1, 1));
    assert_eq!(keys(&mut walk(&[at("model")]).unwrap()), ["mine/a.png"]);
}

/// A PNG's head with the mark of `vqtok decode`.
fn put_drawn(root: &Path, name: &str) {
    put(root, name.as_bytes());
    let mut head = b"\x89PNG\r\n\x1a\n".to_vec();
    head.extend([0; 25]);
    head.extend(b"\0\0\0\x0etEXtSoftware\0vqtok....");
    fs::write(root.join(name), head).unwrap();
}

#[test]
fn pictures_that_vqtok_drew_are_no_inputs_unless_the_input_is_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for name in ["decoded/cat/1.png", "decoded/cat/2.PNG", "decoded/3.png", "z-sheet.png"] {
        put_drawn(root.path(), name);
    }
    put(root.path(), b"photos/a.png");
    put(root.path(), b"photos/b.png");
    put(root.path(), b"decoded/4.png");
    let mut plain = walk(&[root.path().to_path_buf()]).unwrap();
    assert_eq!(keys(&mut plain), ["decoded/4.png", "photos/a.png", "photos/b.png"]);
    assert_eq!(plain.skipped().own, 4);
    // Beside another picture they aren't what is meant; alone they are, and so is a file by name.
    assert_eq!(keys(&mut walk(&[at("decoded")]).unwrap()), ["4.png"]);
    fs::remove_file(at("decoded/4.png")).unwrap();
    let inputs = [at("decoded"), at("z-sheet.png"), at("photos")];
    let mut named = walk(&inputs).unwrap();
    let expected = ["3.png", "cat/1.png", "cat/2.PNG", "z-sheet.png", "a.png", "b.png"];
    assert_eq!(keys(&mut named), expected);
    assert_eq!(named.skipped().own, 0);
}

#[test]
fn thousands_of_inputs_are_checked_in_linear_time() {
    let root = tempfile::tempdir().unwrap();
    let mut inputs = Vec::new();
    for index in 0..20_000 {
        let name = format!("{index}.png");
        fs::File::create(root.path().join(&name)).unwrap();
        inputs.push(root.path().join(name));
    }
    let started = std::time::Instant::now();
    let count = walk(&inputs).unwrap().count();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(count, 20_000);
    assert!(seconds < 5.0, "{seconds} s");
    inputs.push(root.path().to_path_buf());
    assert!(walk(&inputs).unwrap_err().to_string().contains("lies inside"));
    inputs.pop();
    inputs.push(inputs[7].clone());
    assert!(walk(&inputs).unwrap_err().to_string().contains("same place"));
}

#[cfg(target_os = "linux")]
#[test]
fn paths_longer_than_the_system_takes_are_found_and_read() {
    let root = tempfile::tempdir().unwrap();
    let part = "d".repeat(250);
    // Made from the inside, as whoever unpacks an archive makes them.
    let mut place = root.path().to_path_buf();
    for _ in 0..40 {
        place.push(&part);
        reach(&place, |path| fs::create_dir(path)).unwrap();
    }
    let file = place.join("deep.jpg");
    reach(&file, |path| fs::write(path, JPEG_HEAD)).unwrap();
    reach(&place.join("link.jpg"), |path| symlink("deep.jpg", path)).unwrap();
    put(root.path(), b"flat.jpg");
    let found: Vec<SourceFile> =
        walk(&[root.path().to_path_buf()]).unwrap().map(|found| found.unwrap()).collect();
    assert_eq!(found.len(), 3);
    let deep = &found[0];
    assert!(deep.key.ends_with("/deep.jpg") && deep.key.len() > 10_000);
    assert_eq!(
        (deep.bytes, read(&deep.uri, &Limits::default()).unwrap()),
        (JPEG_HEAD.len() as u64, JPEG_HEAD.to_vec())
    );
    assert!(found[1].key.ends_with("link.jpg"));

    // Beyond what a plan takes, they are named and counted, and the rest is found.
    for _ in 0..45 {
        place.push(&part);
        reach(&place, |path| fs::create_dir(path)).unwrap();
    }
    let mut walked = walk(&[root.path().to_path_buf()]).unwrap();
    assert_eq!(walked.by_ref().count(), 3);
    assert_eq!(walked.skipped().too_long, 1);
    assert!(walked.skipped().unreadable[0].1.contains("more than 20000 bytes"));
}

#[test]
fn one_folder_by_two_paths_is_the_same_place() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), b"a/x.jpg");
    let (a, dotted) = (root.path().join("a"), root.path().join("a/../a/."));
    let error = walk(&[a, dotted]).unwrap_err().to_string();
    assert!(error.contains("same place"), "{error}");
}
