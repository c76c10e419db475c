//! Holds memory that runs out, faults of the device, and libraries that are too old.

use crate::scene::*;
use crate::stand_ins::*;
use crate::support::*;

#[test]
fn where_memory_lacks_runs_are_smaller_and_tokens_the_same() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(with_pictures(&[(40, 32); 6]));
        let run = Run { job: &job, stand_ins: &stand_ins, element };
        let (whole, counts) = run.tokens("whole", "", &[]);
        // Room for some, not for all at a time; what the programs of that took is the most.
        let memory = counts.of("peak") * 6 / 10;
        let (less, counts) = run.tokens("less", "", &[("FAKE_CUDA_MEMORY", &memory.to_string())]);
        assert!(less == whole, "{element}");
        assert!(counts.of("peak") <= memory);
        let (done, counts) = run.tokenize("none", "", &[("FAKE_CUDA_MEMORY", "300000")]);
        assert_eq!(done.code, 2, "{}", done.stderr);
        done.assert_one_line(&["memory", "use a smaller"]);
        counts.assert_clean();
    }
}

#[test]
fn a_device_that_faults_is_one_line_wherever_it_does() {
    for element in ["f32", "bf16"] {
        let Some(stand_ins) = stand_ins(element) else { return };
        let job = with_model(with_pictures(&[(24, 20), (36, 16)]));
        let run = Run { job: &job, stand_ins: &stand_ins, element };
        let (_, counts) = run.tokens("whole", "", &[]);
        let kinds = ["launches", "products", "convolutions", "copies"];
        let work: i64 = kinds.iter().map(|kind| counts.of(kind)).sum();
        // The first, some in the midst of a run, and the last, a copy of results.
        for at in [1, work / 2, work * 2 / 3, work * 2 / 3 + 1, work * 2 / 3 + 2, work] {
            let with = [("FAKE_CUDA_FAULT", at.to_string())];
            let with = with.each_ref().map(|(name, at)| (*name, at.as_str()));
            let (done, counts) = run.tokenize(&format!("at{at}"), "", &with);
            assert_eq!(done.code, 2, "{element}, work {at} of {work}: {}", done.stderr);
            done.assert_one_line(&["--device cuda"]);
            counts.assert_clean();
        }
    }
}

#[test]
fn a_fault_that_is_heard_of_later_says_how_to_find_it() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    let job = with_model(with_pictures(&[(24, 20)]));
    let run = Run { job: &job, stand_ins: &stand_ins, element: "f32" };
    let (_, counts) = run.tokens("whole", "", &[]);
    // The last launch is followed by copies of the results alone, codes and distances, all heard of
    // where somebody waits for them.
    let work = ["launches", "products", "copies"].iter().map(|kind| counts.of(kind)).sum::<i64>();
    let (done, _) = run.tokenize("late", "", &[("FAKE_CUDA_FAULT", &(work - 2).to_string())]);
    done.assert_one_line(&["CUDA: a run", "CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_LAUNCH_BLOCKING=1"]);
}

#[test]
fn libraries_that_are_too_old_or_incomplete_are_named() {
    let Some(stand_ins) = stand_ins("bf16") else { return };
    let job = with_model(with_pictures(&[(24, 20)]));
    let run = Run { job: &job, stand_ins: &stand_ins, element: "bf16" };
    for (name, version, said) in [
        ("FAKE_CUBLAS_VERSION", "120400", "version 12 of libcublas first where 13"),
        ("FAKE_CUDNN_VERSION", "8907", "version 0 of libcudnn first where 9"),
    ] {
        let (done, counts) = run.tokenize(name, "", &[(name, version)]);
        assert_eq!(done.code, 2);
        done.assert_one_line(&["--device cuda", said, "LD_LIBRARY_PATH"]);
        counts.assert_clean();
    }
    // A cuDNN that needs a library which isn't there.
    let (folder, source) = (job.path("broken"), job.path("nothing.c"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&source, "int vqtok_nothing(void) { return 0; }\n").unwrap();
    let lacking = folder.join("libvqtok_lacking.so");
    compile(&source, &lacking, &[]).unwrap();
    let beside = format!("-L{}", folder.display());
    let needs = ["-Wl,--no-as-needed", &beside, "-lvqtok_lacking"];
    compile(&source, &folder.join("libcudnn.so.9"), &needs).unwrap();
    std::fs::remove_file(lacking).unwrap();
    let line = "tokenize images --model model --out out --device cuda --precision bf16";
    let mut command = job.command(line);
    stand_ins.serve(&mut command, &job.path("broken.json"));
    let path = command.get_envs().find(|(name, _)| *name == "LD_LIBRARY_PATH").unwrap().1.unwrap();
    let folders = std::iter::once(folder.clone()).chain(std::env::split_paths(path));
    let path = std::env::join_paths(folders).unwrap();
    let done = Done::of(command.env("LD_LIBRARY_PATH", path).output().unwrap());
    assert_eq!(done.code, 2, "{}", done.stderr);
    done.assert_one_line(&["no usable libcudnn.so.9", "libvqtok_lacking.so"]);
}
