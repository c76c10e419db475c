//! Owns the promises of the pickle reader: every published variant reads bit for bit, every
//! hostile file is an error within a second and 256 MB, no damage makes it panic.
//! Must not know: families.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{npz, shared};
use vqtok::internals::checkpoint;
use vqtok::internals::weights::tensor::{Dtype, RawTensor};

/// Where a child process finds the file it shall read.
const CHILD: &str = "VQTOK_TEST_HOSTILE_FILE";

#[test]
fn every_variant_reads_bit_for_bit() {
    let Some(dir) = shared("golden/pickle_variants") else { return };
    let index = std::fs::read(dir.join("index.json")).unwrap();
    let index: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&index).unwrap();
    assert_eq!(index.len(), 24);
    for (file, case) in index {
        let read = checkpoint::open(&dir.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let prefix = case["key"].as_str().map(|k| format!("{k}.")).unwrap_or_default();
        let expected = npz(dir.join(format!("{file}.expected.npz")));
        let listed = case["tensors"].as_object().unwrap();
        assert_eq!(listed.len(), expected.len(), "{file}");
        let under_key = read.tensors.keys().filter(|n| n.starts_with(&prefix)).count();
        assert_eq!(under_key, expected.len(), "{file}: nothing more under the key");
        for (name, facts) in listed {
            let tensor = &read.tensors[&format!("{prefix}{name}")];
            let word = facts[1].as_str().unwrap();
            assert_eq!(format!("torch.{}", tensor.dtype().as_str()), word, "{file}: {name}");
            assert_eq!(serde_json::json!(tensor.shape()), facts[0], "{file}: {name}");
            assert_eq!(tensor.shape(), expected[name].shape, "{file}: {name}");
            same_values(tensor, &expected[name], &format!("{file}: {name}"));
        }
    }
}

/// numpy holds what it could: half, bfloat16 and float64 as float32, small integers as int64.
fn same_values(tensor: &RawTensor, expected: &crate::support::NpzArray, place: &str) {
    if !tensor.dtype().is_float() {
        assert_eq!(tensor.to_i64().unwrap(), expected.to_i64(), "{place}");
        return;
    }
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(tensor.to_f32()), bits(expected.f32()), "{place}");
}

#[test]
fn every_container_of_a_case_holds_the_same_weights() {
    let pairs = [
        ("taming_vq/model_legacy.ckpt", "state_dict.", "taming_vq/model_pl10.ckpt", "state_dict."),
        ("dalle_dvae/encoder.pkl", "", "dalle_dvae/encoder_legacy.pkl", ""),
        ("dalle_dvae/encoder.pkl", "", "dalle_dvae/encoder_state_dict.pt", ""),
        ("maskgit_vqgan/model.safetensors", "", "maskgit_vqgan/pytorch_model.bin", ""),
        ("llamagen_vq/train_ckpt.pt", "model.", "llamagen_vq/vq_ds_c2i.pt", "model."),
        ("llamagen_vq/train_ckpt.pt", "model.", "llamagen_vq/train_ckpt.pt", "ema."),
    ];
    for (a, a_key, b, b_key) in pairs {
        let (Some(a), Some(b)) = (shared(&format!("golden/{a}")), shared(&format!("golden/{b}")))
        else {
            return;
        };
        let under = |path: &Path, key: &str| -> BTreeMap<String, RawTensor> {
            let tensors = checkpoint::open(path).unwrap().tensors.into_iter();
            tensors.filter_map(|(n, t)| Some((n.strip_prefix(key)?.to_string(), t))).collect()
        };
        let (left, right) = (under(&a, a_key), under(&b, b_key));
        assert!(left.len() > 20, "{} holds {} tensors", a.display(), left.len());
        assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
        assert!(left == right, "{} and {} differ", a.display(), b.display());
    }
}

#[test]
fn plain_data_beside_the_weights_is_kept() {
    let Some(dir) = shared("golden/pickle_variants") else { return };
    let hparams = |file: &str| checkpoint::open(&dir.join(file)).unwrap().hparams.unwrap();
    let json = hparams("pl14_attributedict_hparams.ckpt");
    assert_eq!(json["hyper_parameters"], serde_json::json!({"n_embed": 5, "ddconfig": {"ch": 32}}));
    assert_eq!(json["epoch"], 12);
    let json = hparams("omegaconf_hparams.ckpt");
    let expected = serde_json::json!({"cfg": {"a": [1, 2, {"b": 3}], "c": "x"}});
    assert_eq!(json["hyper_parameters"], expected);
    let json = hparams("namespace_args.pt");
    let expected = serde_json::json!({"lr": 1e-4, "betas": [0.9, 0.95], "path": null});
    assert_eq!(json["args"], expected);
    let json = hparams("counter_deque_set.pt");
    assert_eq!(json["c"], serde_json::json!({"1": 2}));
    assert_eq!(json["d"], serde_json::json!([1, 2]));
    assert_eq!(json["s"], serde_json::json!([1, 2]));
    assert_eq!(json["negbig"], -1_099_511_627_776_i64);
    assert_eq!(json["huge"], "1180591620717411303424");
    let Some(module) = shared("golden/dalle_dvae/encoder.pkl") else { return };
    let json = checkpoint::open(&module).unwrap().hparams.unwrap();
    assert_eq!((&json["n_hid"], &json["vocab_size"]), (&16.into(), &512.into()));
    assert!(json.get("_parameters").is_none());

    let read = checkpoint::open(&dir.join("pl10_callback_class_key.ckpt")).unwrap();
    let callback = "callbacks.pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint";
    assert!(read.tensors.contains_key(&format!("{callback}.best_model_score")));
    assert!(read.tensors.contains_key("optimizer_states.0.state.0.exp_avg"));
    let array = &checkpoint::open(&dir.join("counter_deque_set.pt")).unwrap().tensors["np"];
    assert_eq!((array.dtype(), array.to_f32()), (Dtype::F64, vec![0.0, 1.0, 2.0]));
}

/// Reads the file that the parent process names, and says what came of it. Run by the parent only.
#[test]
fn child_that_reads_a_hostile_file() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let start = processor_millis();
    let read = checkpoint::open(Path::new(&path));
    let elapsed = processor_millis() - start;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    match read {
        Ok(read) => println!("OUTCOME {elapsed} {peak} read {} tensors", read.tensors.len()),
        Err(error) => println!("OUTCOME {elapsed} {peak} error {error}"),
    }
}

/// Processor time of this thread: a machine busy with other tests must not fail this one.
fn processor_millis() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

/// Time, peak memory in KiB, and what came of reading a file in a process of its own.
fn in_a_child(path: &Path) -> (Duration, u64, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pickle::child_that_reads_a_hostile_file", "--nocapture"])
        .env(CHILD, path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let place = path.display();
    let at = text.find("OUTCOME ").unwrap_or_else(|| panic!("{place}: {text} {output:?}"));
    let mut words = text[at..].lines().next().unwrap().splitn(4, ' ').skip(1);
    let millis = words.next().unwrap().parse().unwrap();
    let peak = words.next().unwrap().parse().unwrap();
    (Duration::from_millis(millis), peak, words.next().unwrap().to_string())
}

/// The promise: an error of one line, within a second and 256 MB.
fn assert_refused(path: &Path) {
    let (elapsed, peak_kib, outcome) = in_a_child(path);
    let file = path.file_name().unwrap().to_string_lossy();
    println!("{file:32} {:4} ms {:4} MiB  {outcome}", elapsed.as_millis(), peak_kib / 1024);
    assert!(outcome.starts_with("error "), "{file}: {outcome}");
    assert!(outcome.len() < 600, "{file}: {outcome}");
    assert!(elapsed < Duration::from_secs(1), "{file}: {elapsed:?}");
    assert!(peak_kib < 256 << 10, "{file}: {peak_kib} KiB");
}

#[test]
fn published_hostile_files_are_refused() {
    let Some(dir) = shared("golden/pickle_variants/hostile") else { return };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 14);
    files.iter().for_each(|file| assert_refused(file));
}

/// Bytes of a call of `_rebuild_tensor_v2` on storage "0" of `count` floats.
fn tensor(count: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let mut out =
        b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ"
            .to_vec();
    out.extend(count.to_le_bytes());
    out.extend(b"tQK\x00(");
    shape.iter().for_each(|n| out.extend([&b"J"[..], &n.to_le_bytes()].concat()));
    out.extend(b"t(");
    strides.iter().for_each(|n| out.extend([&b"J"[..], &n.to_le_bytes()].concat()));
    out.extend(b"t\x89NtR");
    out
}

/// A zip archive of stored entries without sums, which the reader takes as PyTorch's may be.
fn zip(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in parts {
        let at = out.len() as u32;
        let mut fields = vec![0; 14];
        fields.extend((content.len() as u32).to_le_bytes());
        fields.extend((content.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0, 0]);
        out.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\0\0", &fields[..], &[0; 10]].concat());
        directory.extend([&at.to_le_bytes()[..], name.as_bytes()].concat());
    }
    let (start, size) = (out.len() as u32, directory.len() as u32);
    let count = (parts.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size.to_le_bytes()].concat());
    out.extend([&start.to_le_bytes()[..], &[0, 0]].concat());
    out
}

/// Names and contents of files.
type Cases = Vec<(&'static str, Vec<u8>)>;

/// How a pickle of protocol 2 begins.
const START: &[u8] = b"\x80\x02";

/// The archive of a pickle and four megabytes of floats, its storage "0".
fn archive(pickle: &[u8]) -> Vec<u8> {
    zip(&[("data.pkl", pickle), ("data/0", &vec![0; 4 << 20])])
}

/// Few bytes that stand for many tensors, huge ones or ones without end.
fn expanding_pickles() -> Cases {
    // A tensor behind forty levels of pairs has 2^40 names.
    let mut laughs = [START, &tensor(1, &[1], &[1]), b"q\x00"].concat();
    for level in 0..40u8 {
        laughs.extend([b'h', level, 0x86, b'q', level + 1]);
    }
    laughs.push(b'.');
    // One element expanded to a terabyte; a storage transposed a thousand times.
    let expanded = [START, &tensor(1, &[1 << 20, 1 << 20], &[0, 0]), b"."].concat();
    let mut transposed = [START, b"]("].concat();
    (0..1000).for_each(|_| transposed.extend(tensor(1 << 20, &[1024, 1024], &[1, 1024])));
    transposed.extend(b"e.");
    // A list that holds itself and a tensor; a chain of tuples around a tensor.
    let cycle = [START, b"]q\x00h\x00a", &tensor(1, &[99], &[1]), b"a."].concat();
    let deep = [START, &tensor(1, &[1], &[1]), &b"\x85".repeat(100_000), b"."].concat();
    vec![
        ("laughs_with_a_tensor", archive(&laughs)),
        ("expanded_terabyte", archive(&expanded)),
        ("transposed_a_thousand_times", archive(&transposed)),
        ("cycle", archive(&cycle)),
        ("deep_around_a_tensor", archive(&deep)),
    ]
}

/// A million of everything, in an archive and alone.
fn repeating_pickles() -> Cases {
    let mut cases = Cases::new();
    for (name, unit) in [
        ("marks", &b"("[..]),
        ("lists", b"]"),
        ("dups", b"N2"),
        ("memo", b"Nr\xff\xff\xff\xff0"),
        ("globals", b"cm\nn\n"),
        ("calls", b"cm\nn\n)R"),
        ("persistent", b"NQ"),
    ] {
        let pickle = [START, &unit.repeat(4 << 20), b"."].concat();
        cases.push((name, archive(&pickle)));
        cases.push((name, pickle));
    }
    cases
}

/// What is large and used by many.
fn sharing_pickles() -> Cases {
    // Fifty thousand objects that share one state of twenty thousand entries.
    let mut shared_state = [START, b"}q\x00("].concat();
    for i in 0..20_000u32 {
        shared_state.extend([&b"J"[..], &i.to_le_bytes(), b"N"].concat());
    }
    shared_state.extend(b"u0cm\nn\nq\x010](");
    shared_state.extend(b"h\x01)Rh\x00b".repeat(50_000));
    shared_state.extend(b"e.");
    // The same state, now with a tensor, walked from each of them.
    let with_tensor = [b"N".as_slice(), &tensor(1, &[1], &[1]), b"uh\x00"].concat();
    let mut walked = shared_state.clone();
    let at = walked.windows(3).position(|w| w == b"u0c").unwrap();
    walked.splice(at..at + 1, with_tensor.into_iter().chain(*b"0"));
    // Long keys, each used by many names.
    let mut keys = [START, b"}(X"].concat();
    keys.extend((8u32 << 20).to_le_bytes());
    keys.extend(vec![b'k'; 8 << 20]);
    keys.extend(b"q\x00");
    keys.extend([&tensor(1, &[1], &[1])[..], b"q\x01"].concat());
    keys.extend(b"h\x00h\x01".repeat(100_000));
    keys.extend(b"u."); // the same key again and again: one tensor at most, of a cut name
    keys.truncate(keys.len() - 1);
    vec![
        ("shared_state", archive(&shared_state)),
        ("shared_state_with_a_tensor", archive(&walked)),
        ("long_keys_cut", archive(&keys)),
    ]
}

/// Containers that claim more than there is, or hold too much of one thing.
fn lying_containers() -> Cases {
    // Archives: a directory that claims billions.
    let mut claims = archive(b"\x80\x02N.");
    let end = claims.len() - 22;
    let directory = u32::from_le_bytes(claims[end + 16..end + 20].try_into().unwrap());
    let mut wide = b"PK\x06\x06".to_vec();
    wide.extend([&[0; 28][..], &(1u64 << 40).to_le_bytes(), &100u64.to_le_bytes()].concat());
    wide.extend(u64::from(directory).to_le_bytes());
    wide.extend([b"PK\x06\x07\0\0\0\0", &(end as u64).to_le_bytes()[..], &[0; 4]].concat());
    claims.splice(end..end, wide);
    // Legacy: a storage of 2^60 elements.
    let mut legacy =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."
            .to_vec();
    legacy.extend([START, &tensor(4, &[4], &[1]), b".", START, b"](U\x010e."].concat());
    legacy.extend((1u64 << 60).to_le_bytes());
    // Safetensors: a header of a hundred megabytes, and one of many dimensions.
    let mut header = (100u64 << 20).to_le_bytes().to_vec();
    header.extend(vec![b'{'; 100 << 20]);
    let shape = "1,".repeat((2 << 20) - 64);
    let json =
        format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{shape}1],\"data_offsets\":[0,2]}}}}");
    let json = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0]].concat();
    vec![
        ("claims_billions", claims),
        ("legacy_storage_of_exabytes", legacy),
        ("safetensors_long_header", header),
        ("safetensors_many_dimensions", json),
    ]
}

#[test]
fn hostile_files_of_our_own_are_refused() {
    let kinds = [expanding_pickles, repeating_pickles, sharing_pickles, lying_containers];
    let cases = kinds.iter().flat_map(|kind| kind());
    let dir = tempfile::tempdir().unwrap();
    for (i, (name, bytes)) in cases.enumerate() {
        let path = dir.path().join(format!("{i:02}_{name}.pt"));
        std::fs::write(&path, bytes).unwrap();
        assert_refused(&path);
        std::fs::remove_file(&path).unwrap();
    }
}

/// A small generator (xorshift), so that every run damages the same bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// Flips, overwrites, cuts, copies or inserts a few bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const OPCODES: &[u8] = b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu}]()\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98";
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            if bytes.is_empty() {
                return;
            }
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => bytes[at] = OPCODES[self.below(OPCODES.len())],
                3 => bytes.insert(at, OPCODES[self.below(OPCODES.len())]),
                4 if self.below(4) == 0 => bytes.truncate(at),
                _ => {
                    let length = self.below(16).min(bytes.len() - at);
                    let piece = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
    }
}

/// The pickle inside a file of small golden tensors.
fn pickle_inside(bytes: &[u8]) -> Option<Vec<u8>> {
    // Stored first, with the length in the directory: the local header may leave it out.
    let start = bytes.windows(8).position(|w| w == b"data.pkl")? + 8;
    let local = bytes.windows(4).position(|w| w == b"PK\x03\x04")?;
    let extra = usize::from(u16::from_le_bytes([bytes[local + 28], bytes[local + 29]]));
    let rest = &bytes[start + extra..];
    let end = rest.windows(3).position(|w| w == b".PK")? + 1;
    Some(rest[..end].to_vec())
}

/// Damages valid files until the time or the count is over; any panic fails the test. How many
/// there were, and how many of them still read. Drives the function that the fuzz target drives.
fn hammer(seeds: &[Vec<u8>], count: u64, time: Duration) -> (u64, u64) {
    let pickles = seeds.iter().filter_map(|bytes| pickle_inside(bytes));
    let pickles: Vec<Vec<u8>> = pickles.map(|p| [&[0], &p[..]].concat()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (start, mut read, mut runs) = (Instant::now(), 0, 0);
    while runs < count && (runs % 1024 != 0 || start.elapsed() < time) {
        runs += 1;
        let from = if runs % 4 == 0 { seeds } else { &pickles[..] };
        let mut bytes = from[random.below(from.len())].clone();
        let bare = bytes.first() == Some(&0);
        random.damage(&mut bytes);
        if bare && !bytes.is_empty() {
            bytes[0] = 0;
        }
        read += u64::from(checkpoint::probe(&bytes));
    }
    (runs, read)
}

/// Valid files to start from: the golden ones where they are, else a few of our own.
fn seeds() -> Vec<Vec<u8>> {
    let pickle = [b"\x80\x02}(U\x01a".as_slice(), &tensor(4, &[2, 2], &[1, 2]), b"u."].concat();
    let mut seeds = vec![zip(&[("x/data.pkl", &pickle), ("x/data/0", &[0; 16])])];
    seeds.push(b"\x80\x02}X\x01\0\0\0acnumpy\ndtype\nU\x02f4K\x00K\x01\x87R.".to_vec());
    if let Some(dir) = shared("golden/pickle_variants") {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        let files = files.iter().filter(|f| f.is_file() && f.extension().unwrap() != "npz");
        seeds.extend(files.map(|f| std::fs::read(f).unwrap()));
    }
    seeds
}

#[test]
fn damaged_files_never_panic() {
    let (runs, read) = hammer(&seeds(), 40_000, Duration::from_secs(60));
    println!("{runs} damaged files, {read} of them still read");
    assert!(read > 0 && read < runs);
}

/// The long run, by hand: `VQTOK_HAMMER_SECONDS=600 cargo test --test models pickle -- --ignored`.
#[test]
#[ignore = "takes as long as VQTOK_HAMMER_SECONDS says"]
fn damaged_files_never_panic_for_long() {
    let seconds = std::env::var("VQTOK_HAMMER_SECONDS").ok().and_then(|s| s.parse().ok());
    let (runs, read) = hammer(&seeds(), u64::MAX, Duration::from_secs(seconds.unwrap_or(600)));
    println!("{runs} damaged files, {read} of them still read");
}
