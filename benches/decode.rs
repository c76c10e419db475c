//! Owns the measure of the data room: images a CPU-second, one thread, for decoding and resizing
//! real photos to 256 pixels, beside Pillow doing the same in the same run. Must not know: models.
//!
//! `cargo bench --bench decode [-- --python PATH]`: the rounds of both alternate, each reports the
//! median of its CPU-seconds. Needs `../shared/images/photos` or `--images DIR`; without Python
//! and Pillow only our own numbers are printed.

use std::path::{Path, PathBuf};
use std::process::Command;

use vqtok::internals::data::resize::rules::{ResizeRule, prepare};
use vqtok::internals::data::{Alpha, Limits, PillowVersion, decode};

const ROUNDS: usize = 5;
const RULES: [ResizeRule; 3] = [ResizeRule::Bilinear, ResizeRule::Bicubic, ResizeRule::Lanczos];

fn main() {
    let mut images = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/images/photos");
    let mut python = PathBuf::from("python3");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--images" => images = arguments.next().expect("--images DIR").into(),
            "--python" => python = arguments.next().expect("--python PATH").into(),
            _ => {}
        }
    }
    let paths = jpegs(&images);
    if paths.is_empty() {
        println!("skipped: no JPEG under {}", images.display());
        return;
    }
    let files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    println!("{} photos, CPU-milliseconds an image (median of {ROUNDS} rounds)", files.len());

    let mut own: Vec<Vec<f64>> = vec![Vec::new(); RULES.len() + 1];
    let mut peer: Vec<Vec<f64>> = vec![Vec::new(); RULES.len() + 1];
    for _ in 0..ROUNDS {
        own[0].push(timed(&files, |bytes| {
            std::hint::black_box(decode(bytes, &Limits::default(), Alpha::White).unwrap());
        }));
        for (times, rule) in own[1..].iter_mut().zip(RULES) {
            times.push(timed(&files, |bytes| {
                let image = decode(bytes, &Limits::default(), Alpha::White).unwrap().image;
                std::hint::black_box(
                    prepare(&image, rule, Some(256), PillowVersion::default()).unwrap(),
                );
            }));
        }
        for (times, value) in peer.iter_mut().zip(pillow(&python, &paths)) {
            times.push(value);
        }
    }
    println!("| work | vqtok ms | images/s a core | Pillow ms | ratio |");
    println!("|---|---|---|---|---|");
    let names = ["decode".to_string()].into_iter();
    let names = names.chain(RULES.iter().map(|rule| format!("decode + {rule} 256")));
    for ((name, own), peer) in names.zip(&mut own).zip(&mut peer) {
        let own = median(own);
        print!("| {name} | {own:.3} | {:.0} |", 1000.0 / own);
        match peer.is_empty() {
            true => println!(" - | - |"),
            false => println!(" {:.3} | {:.2} |", median(peer), median(peer) / own),
        }
    }
}

fn jpegs(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => open.push(path),
                Some(extension) if extension == "jpg" => out.push(path),
                _ => {}
            }
        }
    }
    out.sort();
    out
}

/// CPU-milliseconds an image of `work` on every file, this thread alone.
fn timed(files: &[Vec<u8>], work: impl Fn(&[u8])) -> f64 {
    let start = cpu_seconds();
    files.iter().for_each(|bytes| work(bytes));
    (cpu_seconds() - start) * 1000.0 / files.len() as f64
}

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// One round of `benches/peers/decode_pillow.py`: a number for decoding and one for each rule.
fn pillow(python: &Path, paths: &[PathBuf]) -> Vec<f64> {
    let list = std::env::temp_dir().join(format!("vqtok-decode-{}.txt", std::process::id()));
    let lines: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    std::fs::write(&list, lines.join("\n")).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers/decode_pillow.py");
    let output = Command::new(python).arg(script).arg(&list).output();
    let _ = std::fs::remove_file(&list);
    let Ok(output) = output else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
