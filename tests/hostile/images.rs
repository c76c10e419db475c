//! Owns the proof that no image, however odd or hostile, costs more than one row: every file of
//! `../shared/images/nasty` goes through `data::decode` in a process of its own, against the
//! oracle of the corpus. Prints the table by `expect`. Must not know: models, shards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vqtok::internals::data::{self, Alpha, Limits};

/// The file that a child process decodes.
const CHILD: &str = "VQTOK_NASTY_FILE";
/// No child may run longer, debug build and busy machine included.
const SECONDS_MAX: u64 = 60;
/// What any file of the corpus may take; measured: see the table.
const DECODE_SECONDS_MAX: f64 = 20.0;
const MEBIBYTES_MAX: u64 = 1024;
/// What a bomb may take until it is rejected.
const BOMB_SECONDS_MAX: f64 = 2.0;
const BOMB_MEBIBYTES_MAX: u64 = 256;

/// Files where what is owed isn't what happens, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "files/image-tiff/images__minisblack-2c-8b-alpha.tiff",
        "the oracle leaves the alpha plane of planar grey + alpha at 0; here it is read",
    ),
    (
        "files/image-tiff/images__seq__seq-1c-32f-deflate-fpredict-390fe673.tiff",
        "floats within 0..1 are scaled to the full range; the oracle clips them to 0..255: black",
    ),
    (
        "files/image-tiff/libtiffpic__depth__flower-rgb-planar-16.tif",
        "the oracle takes the bytes of planar 16-bit samples for pixels; here they agree with the \
         8-bit version of the same picture",
    ),
    (
        "files/image-tiff/libtiffpic__depth__flower-separated-planar-16.tif",
        "as flower-rgb-planar-16.tif, in CMYK",
    ),
    (
        "files/mei-bmpsuite/bmp__bmpsuite__b__badrle4.bmp",
        "damaged by design (bmpsuite's `b` for bad): runs cross the end of a row; rejected as such",
    ),
    ("files/mei-bmpsuite/bmp__bmpsuite__b__badrle4bis.bmp", "as badrle4.bmp"),
    ("files/mei-bmpsuite/bmp__bmpsuite__b__badrle4ter.bmp", "as badrle4.bmp"),
    (
        "files/pillow/rgb32bf-abgr.bmp",
        "its alpha is 0 everywhere, which only writers that know of none leave so: opaque here, \
         wholly transparent to the oracle",
    ),
    (
        "files/pillow/tiff_wrong_bits_per_sample_2.tiff",
        "states four depths for three samples; rejected as inconsistent",
    ),
];

/// Levels by which means may be off; CMYK without profiles is only roughly defined.
fn tolerance(mode: &str) -> f64 {
    if mode == "CMYK" { 6.0 } else { 2.0 }
}

#[test]
fn child_decodes_one_file() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let bytes = std::fs::read(path).unwrap();
    let start = Instant::now();
    let dropped = data::decode(&bytes, &Limits::default(), Alpha::Drop);
    let seconds = start.elapsed().as_secs_f64();
    let mebibytes = peak_mebibytes();
    let mut result = json!({ "seconds": seconds, "mebibytes": mebibytes });
    match dropped {
        Err(reject) => result["error"] = reject.message.into(),
        Ok(decoded) => {
            let image = decoded.image;
            result["format"] = decoded.format.into();
            result["mode"] = decoded.color_mode.into();
            result["orientation"] = decoded.orientation.into();
            result["size"] = json!([image.width(), image.height()]);
            let (w, h) = image.dimensions();
            result["mean"] = json!(mean(&image, 0, 0, w, h));
            if w >= 2 && h >= 2 {
                // The oracle's quadrants leave the middle of odd sides out.
                let (x, y) = (w / 2, h / 2);
                result["quadrants"] = json!([
                    mean(&image, 0, 0, x, y),
                    mean(&image, w - x, 0, w, y),
                    mean(&image, 0, h - y, x, h),
                    mean(&image, w - x, h - y, w, h),
                ]);
            }
            let white = data::decode(&bytes, &Limits::default(), Alpha::White).unwrap().image;
            result["on_white"] = json!(mean(&white, 0, 0, w, h));
            let black = data::decode(&bytes, &Limits::default(), Alpha::Black).unwrap().image;
            result["on_black"] = json!(mean(&black, 0, 0, w, h));
        }
    }
    println!("\nRESULT {result}");
}

fn mean(image: &image::RgbImage, x0: u32, y0: u32, x1: u32, y1: u32) -> [f64; 3] {
    let mut sums = [0u64; 3];
    for y in y0..y1 {
        for x in x0..x1 {
            for (sum, value) in sums.iter_mut().zip(image.get_pixel(x, y).0) {
                *sum += u64::from(value);
            }
        }
    }
    let count = f64::from(x1 - x0) * f64::from(y1 - y0);
    sums.map(|sum| sum as f64 / count)
}

fn peak_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

struct Outcome {
    expect: String,
    path: String,
    /// What is owed and did not happen.
    fault: Option<String>,
    seconds: f64,
    mebibytes: u64,
    decoded: bool,
}

#[test]
fn the_corpus_gets_what_it_is_owed() {
    let Some(folder) = crate::support::shared("images/nasty") else { return };
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    // Python writes the raw means of float images as words that JSON doesn't have.
    let manifest = ["-Infinity", "Infinity", "NaN"]
        .iter()
        .fold(manifest, |text, word| text.replace(&format!(": {word}"), ": null"));
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let files = manifest["files"].as_array().unwrap();
    assert!(files.len() > 1800);
    let outcomes = run_all(files, &folder);
    print_table(&outcomes);
    let unmet: Vec<String> = outcomes
        .iter()
        .filter(|outcome| EXCEPTIONS.iter().all(|(path, _)| *path != outcome.path))
        .filter_map(|o| Some(format!("{} {}: {}", o.expect, o.path, o.fault.as_ref()?)))
        .collect();
    assert!(unmet.is_empty(), "{} unmet:\n{}", unmet.len(), unmet.join("\n"));
    for (path, reason) in EXCEPTIONS {
        let outcome = outcomes.iter().find(|outcome| outcome.path == *path);
        let outcome = outcome.unwrap_or_else(|| panic!("{path} is not in the corpus"));
        assert!(outcome.fault.is_some(), "{path} needs no exception any more ({reason})");
    }
}

fn run_all(files: &[Value], folder: &Path) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get());
    let mut outcomes: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(index) else { return done };
                done.push((index, judge(file, folder)));
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    });
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn judge(file: &Value, folder: &Path) -> Outcome {
    let path = file["path"].as_str().unwrap().to_string();
    let expect = file["expect"].as_str().unwrap().to_string();
    let mut outcome =
        Outcome { expect, path, fault: None, seconds: 0.0, mebibytes: 0, decoded: false };
    match in_child(&folder.join(&outcome.path)) {
        Err(fault) => outcome.fault = Some(fault),
        Ok(result) => {
            outcome.seconds = result["seconds"].as_f64().unwrap();
            outcome.mebibytes = result["mebibytes"].as_u64().unwrap();
            outcome.decoded = result["error"].is_null();
            outcome.fault = fault(file, &result).or_else(|| too_costly(&outcome));
        }
    }
    outcome
}

fn too_costly(outcome: &Outcome) -> Option<String> {
    let (seconds, mebibytes) = match outcome.expect.as_str() {
        "bomb" => (BOMB_SECONDS_MAX, BOMB_MEBIBYTES_MAX),
        _ => (DECODE_SECONDS_MAX, MEBIBYTES_MAX),
    };
    (outcome.seconds > seconds || outcome.mebibytes > mebibytes)
        .then(|| format!("took {:.1} s and {} MiB", outcome.seconds, outcome.mebibytes))
}

/// Runs [`child_decodes_one_file`] in a process of its own.
fn in_child(path: &Path) -> Result<Value, String> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "images::child_decodes_one_file", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = wait(child)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let line = line.ok_or_else(|| {
        format!("crashed: {} {}", output.status, String::from_utf8_lossy(&output.stderr))
    })?;
    if !output.stderr.is_empty() {
        return Err(format!("printed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(serde_json::from_str(line).unwrap())
}

fn wait(mut child: Child) -> Result<std::process::Output, String> {
    let end = Instant::now() + Duration::from_secs(SECONDS_MAX);
    loop {
        // What a child prints is far below a pipe's capacity, so it never waits for a reader.
        if child.try_wait().unwrap().is_some() {
            return Ok(child.wait_with_output().unwrap());
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(format!("hangs: more than {SECONDS_MAX} s"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What is owed and did not happen, if anything.
fn fault(file: &Value, result: &Value) -> Option<String> {
    let error = result["error"].as_str();
    match (file["expect"].as_str().unwrap(), error) {
        ("decode", Some(error)) => Some(format!("rejected: {error}")),
        ("decode_if_supported", Some(error)) => not_named(file, error),
        ("decode" | "decode_if_supported", None) => differs(file, result),
        ("reject" | "bomb", None) => Some(format!("decoded: {}", result["size"])),
        _ => None,
    }
}

/// A rejection of something that Pillow can read must say which format it can't.
fn not_named(file: &Value, error: &str) -> Option<String> {
    let format = file["format"].as_str().unwrap_or("");
    let names: &[&str] = match format {
        "HEIF" => &["HEIC", "HEIF"],
        "JPEG2000" => &["JPEG 2000"],
        "PPM" => &["PNM", "PFM"],
        "PSD" => &["PSD"],
        "GBR" => &["GIMP brush"],
        "XVThumb" => &["XV thumbnail"],
        _ => &[format],
    };
    let named = names.iter().any(|name| error.contains(name));
    let clear = error.contains("support");
    (!named || !clear).then(|| format!("rejected without naming {format}: {error}"))
}

fn differs(file: &Value, result: &Value) -> Option<String> {
    let size = json!([file["width"], file["height"]]);
    if size != result["size"] {
        return Some(format!("size {} instead of {size}", result["size"]));
    }
    let mode = file["mode"].as_str().unwrap_or("");
    let tolerance = tolerance(mode);
    // Where Pillow clips 16-bit grey (mode I of PNM, and the alpha means of I;16), the README's rule
    // for 16-bit grey holds: value / 257.
    let narrowed = json!([0, 1, 2].map(|_| file["raw_mean"].as_f64().unwrap_or(0.0) / 257.0));
    if mode == "I" && file["format"] == "PPM" {
        return far(&narrowed, &result["mean"], tolerance)
            .then(|| format!("mean {} instead of {narrowed}", result["mean"]));
    }
    let deep = mode.starts_with("I;16");
    let pairs = [
        ("mean", &file["rgb_mean"], &result["mean"]),
        ("mean on white", &file["rgb_mean_on_white"], &result["on_white"]),
        ("mean on black", &file["rgb_mean_on_black"], &result["on_black"]),
    ];
    for (what, expected, found) in pairs.into_iter().take(if deep { 1 } else { 3 }) {
        if far(expected, found, tolerance) {
            return Some(format!("{what} {found} instead of {expected}"));
        }
    }
    let (quadrants, found) = (file["quadrant_rgb"].as_array()?, result["quadrants"].as_array()?);
    for (index, (expected, found)) in quadrants.iter().zip(found).enumerate() {
        if far(expected, found, tolerance) {
            return Some(format!("quadrant {index} {found} instead of {expected}"));
        }
    }
    None
}

/// Whether two means (where both are there) are further apart than `tolerance`.
fn far(expected: &Value, found: &Value, tolerance: f64) -> bool {
    let (Some(expected), Some(found)) = (expected.as_array(), found.as_array()) else {
        return false;
    };
    expected.iter().zip(found).any(|(a, b)| {
        (a.as_f64().unwrap_or(0.0) - b.as_f64().unwrap_or(f64::NAN)).abs() > tolerance
    })
}

fn print_table(outcomes: &[Outcome]) {
    let mut rows: BTreeMap<&str, [usize; 5]> = BTreeMap::new();
    for outcome in outcomes {
        let excepted = EXCEPTIONS.iter().any(|(path, _)| *path == outcome.path);
        let row = rows.entry(&outcome.expect).or_default();
        row[0] += 1;
        row[1] += usize::from(outcome.decoded);
        row[2] += usize::from(outcome.fault.is_none());
        row[3] += usize::from(excepted && outcome.fault.is_some());
        row[4] += usize::from(!excepted && outcome.fault.is_some());
    }
    println!("| expect | files | decoded | met | excepted | not met |");
    println!("|---|---|---|---|---|---|");
    for (expect, row) in &rows {
        let [files, decoded, met, excepted, unmet] = row;
        println!("| {expect} | {files} | {decoded} | {met} | {excepted} | {unmet} |");
    }
    let slowest = outcomes.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds)).unwrap();
    let largest = outcomes.iter().max_by_key(|outcome| outcome.mebibytes).unwrap();
    println!("longest time: {:.2} s ({})", slowest.seconds, slowest.path);
    println!("largest memory: {} MiB ({})", largest.mebibytes, largest.path);
    let recovered = outcomes.iter().filter(|o| o.expect.starts_with("reject") && o.decoded);
    for outcome in recovered {
        println!("recovered: {} ({})", outcome.path, outcome.expect);
    }
    for (path, reason) in EXCEPTIONS {
        println!("exception: {path}: {reason}");
    }
}

/// Unpacks `oddnames.tar` with the system's tar; None (said) where it can't.
fn odd_names() -> Option<(tempfile::TempDir, PathBuf)> {
    let archive = crate::support::shared("images/nasty/oddnames.tar")?;
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(folder.path())
        .stderr(Stdio::null())
        .status()
        .expect("tar is there");
    assert!(status.success(), "tar: {status}");
    let root = folder.path().join("odd");
    Some((folder, root))
}

/// Names of `oddnames.tar` that are images wherever they are met.
const ODD_NAMES: [&str; 24] = [
    "plain.jpg",
    "with space.jpg",
    "new\nline.jpg",
    "tab\there.jpg",
    "quo\"te's.jpg",
    "-dash.jpg",
    "UPPER.JPG",
    "bad%FF%FE.jpg",
    "日本語.jpg",
    "back\\slash.jpg",
    "--help.jpg",
    "emoji😀.jpg",
    "rtl\u{202e}gpj.jpg",
    "a,b;c.jpg",
    "*glob?[x].jpg",
    "$HOME`id`.jpg",
    "%00%2e.jpg",
    "mixed.tar.gz.png",
    "noext",
    "noperm.jpg",
    "dir.jpg/inner.png",
    "hard.jpg",
    "cafe\u{301}_nfd.jpg",
    "caf\u{e9}_nfc.jpg",
];

#[test]
fn odd_names_are_walked_once_each() {
    let Some((_guard, root)) = odd_names() else { return };
    let mut walk = data::walk(std::slice::from_ref(&root)).unwrap();
    let found: Vec<data::SourceFile> = walk.by_ref().map(|found| found.unwrap()).collect();
    let keys: Vec<&str> = found.iter().map(|found| found.key.as_str()).collect();
    let distinct: std::collections::BTreeSet<&str> = found.iter().map(|f| f.uri.as_str()).collect();
    assert_eq!(distinct.len(), found.len(), "a URI twice");
    for name in ODD_NAMES {
        assert!(keys.contains(&name), "{name:?} is missing from {keys:?}");
    }
    assert!(keys.iter().any(|key| key.ends_with("d39/deep.png")));
    for name in ["link_ok.jpg", "pipe.jpg", "outside.jpg/x"] {
        assert!(!keys.contains(&name), "{name} must be skipped");
    }
    for key in &keys {
        assert!(!key.starts_with("root/") && !key.starts_with("sub/up/"), "{key} left the input");
    }
    // Links that lead nowhere are owed a row, and reading them says why.
    for (name, reason) in [("dangling.jpg", "No such file"), ("self.jpg", "symbolic links")] {
        let one = found.iter().find(|found| found.key == name).unwrap();
        let reject = data::read(&one.uri, &Limits::default()).unwrap_err();
        assert!(reject.message.contains(reason), "{name}: {reject}");
    }
    let skipped = walk.skipped();
    assert_eq!((skipped.not_regular, skipped.link_loops, skipped.links_inside), (1, 1, 2));
    assert!(!keys.contains(&".hidden.jpg"));
    assert_eq!((skipped.hidden, skipped.system), (1, 0));
    let all =
        data::walk_taking(&[root], data::Take { hidden: true, ..data::Take::default() }).unwrap();
    let hidden: Vec<String> = all.map(|found| found.unwrap().key).collect();
    let more: Vec<_> = hidden.iter().filter(|key| !keys.contains(&key.as_str())).collect();
    assert_eq!(more, [".hidden.jpg"]);
}

#[test]
fn odd_names_decode_where_the_list_says_so() {
    let Some((_guard, root)) = odd_names() else { return };
    let list = crate::support::shared("images/nasty/oddnames.json").unwrap();
    let list: Value = serde_json::from_str(&std::fs::read_to_string(list).unwrap()).unwrap();
    let owed = list.as_array().unwrap().iter().filter(|entry| entry["expect"] == "decode").count();
    let walk =
        data::walk_taking(&[root], data::Take { hidden: true, ..data::Take::default() }).unwrap();
    let limits = Limits::default();
    let decoded = walk
        .map(|found| data::read(&found.unwrap().uri, &limits))
        .filter_map(|bytes| data::decode(&bytes.ok()?, &limits, Alpha::White).ok())
        .count();
    assert!(decoded >= owed, "{decoded} of {owed} decode");
}
