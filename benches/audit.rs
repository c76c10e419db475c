//! Owns one question: what does looking for near duplicates cost, and how does that grow? Makes up
//! thumbnails instead of drawing pictures, looks for copies among them, and prints times, the peak
//! resident set, and how many of the planted copies were found.
//!
//! `cargo bench --bench audit` (20,000 and 100,000 images), `cargo bench --bench audit -- 10000000`
//! for another number, which takes an hour on two cores and 8 GB in the temporary folder.

use vqtok::internals::findings::many;

fn main() {
    // cargo passes `--bench`.
    let asked: Vec<u64> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .map(|word| word.parse().expect("a number of images"))
        .collect();
    let numbers = if asked.is_empty() { vec![20_000, 100_000] } else { asked };
    println!(
        "| images | made, s | signatures, s | found and compared, s | CPU-s | peak MiB | \
         copies found | false pairs | threshold |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for images in numbers {
        let before = cpu_seconds();
        let seen = many(images).expect("room in the temporary folder");
        let [made, signed, compared] = seen.seconds;
        println!(
            "| {images} | {made:.1} | {signed:.1} | {compared:.1} | {:.1} | {:.0} | {} of {} | \
             {} ({:.1} expected) | {:.3} |",
            cpu_seconds() - before,
            peak_mib(),
            seen.found,
            seen.copies,
            seen.false_pairs,
            seen.expected,
            seen.threshold
        );
    }
}

/// CPU seconds of this process so far; 0 where the system doesn't say it so.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most anonymous memory and mapped files that were resident at a time.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
