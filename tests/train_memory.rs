//! Holds the memory that a training says it will take to what its process takes at most. One test
//! to a file: the system tells the most of all children of this process together.
//! Must not know: what the memory is for.

mod support;
use support::*;

/// Peak resident memory, in bytes, of the largest child so far.
fn largest_child() -> u64 {
    // SAFETY: all zeros are a valid value, and the call writes nothing but it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage), 0);
        usage
    };
    // Kibibytes on Linux.
    usage.ru_maxrss as u64 * 1024
}

#[test]
fn the_memory_that_is_foretold_is_what_is_taken() {
    let job = Job::new(40);
    let wide = TINY_RECIPE
        .replace("hidden = 8", "hidden = 64")
        .replace("res_hidden = 4", "res_hidden = 32")
        .replace("size = 16", "size = 64")
        .replace("batch_size = 4", "batch_size = 32\nmicro_batch = 32\npictures = 0");
    std::fs::write(job.path("wide.toml"), wide).unwrap();
    let line = "train images --model model --recipe wide.toml --steps 3 --threads 2 --json";
    let done = job.expect(0, line);
    let told = done.events("estimate")[0]["memory_bytes"].as_u64().unwrap();
    let taken = largest_child();
    let ratio = told as f64 / taken as f64;
    println!("{told} bytes foretold, {taken} taken: {ratio:.2}");
    assert!((0.8..1.25).contains(&ratio), "{told} bytes foretold, {taken} taken: {ratio:.2}");
}
