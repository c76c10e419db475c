//! Runs the files of `pipelines/launch/` without a cluster: a stand-in for sbatch that runs the script
//! with the variables of each task, and the manifest's own command with those of each index.

use crate::support::*;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const LAUNCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/launch");

/// A folder of programs that stands before all others: `vqtok`, and an `scontrol` that notes what it
/// is asked for.
fn programs(job: &Job) -> String {
    let bin = job.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vqtok"), bin.join("vqtok")).unwrap();
    let scontrol = format!("#!/bin/sh\necho \"$@\" >> {}\n", job.path("asked").display());
    std::fs::write(bin.join("scontrol"), scontrol).unwrap();
    std::fs::set_permissions(bin.join("scontrol"), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

/// What sbatch starts for task `task` of `--array=0-<tasks - 1>`.
fn slurm(job: &Job, path: &str, task: usize, tasks: usize, args: &str) -> Child {
    let mut script = Command::new("bash");
    script.arg(Path::new(LAUNCH).join("slurm.sh")).args(args.split_whitespace());
    script.current_dir(job.dir.path()).env("PATH", path).env("VQTOK_REQUEUE_WAIT", "0");
    for (name, value) in [
        ("SLURM_JOB_ID", 77 + task),
        ("SLURM_ARRAY_JOB_ID", 77),
        ("SLURM_ARRAY_TASK_ID", task),
        ("SLURM_ARRAY_TASK_COUNT", tasks),
        ("SLURM_ARRAY_TASK_MIN", 0),
        ("SLURM_ARRAY_TASK_STEP", 1),
        ("SLURM_CPUS_PER_TASK", 1),
    ] {
        script.env(name, value.to_string());
    }
    script.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn asked(job: &Job) -> String {
    std::fs::read_to_string(job.path("asked")).unwrap_or_default()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_tasks_of_a_slurm_array_make_the_output_of_one_job() {
    let job = Job::new(21).trained();
    std::fs::write(job.path("images/broken.png"), b"\x89PNG").unwrap();
    job.expect(1, "tokenize images --model model --shard-rows 4 --out whole");
    let path = programs(&job);
    let line = "images out model --shard-rows 4";
    let mut first = slurm(&job, &path, 2, 3, line);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    let mut others = [0, 1].map(|task| slurm(&job, &path, task, 3, line));
    others.iter_mut().for_each(|task| assert_eq!(task.wait().unwrap().code(), Some(0)));
    job.assert_same("whole", "out");
    assert_eq!(asked(&job), "");
    // What is final isn't queued again: the folder is another job's.
    let mut other = slurm(&job, &path, 0, 3, "images out model --shard-rows 5");
    assert_eq!(other.wait().unwrap().code(), Some(2));
    let mut none = slurm(&job, &path, 0, 3, "images");
    assert_eq!(none.wait().unwrap().code(), Some(2));
    assert_eq!(asked(&job), "");
}

#[test]
fn a_preempted_task_is_queued_again_and_goes_on() {
    let job = Job::new(8).trained();
    std::fs::create_dir(job.path("large")).unwrap();
    let large = image::RgbImage::from_fn(2000, 2000, |x, y| {
        image::Rgb([(x * y / 7) as u8, (x / 3) as u8, (y * 5 / 3) as u8])
    });
    large.save(job.path("large/000.png")).unwrap();
    for copy in 1..60 {
        let name = job.path(&format!("large/{copy:03}.png"));
        std::fs::hard_link(job.path("large/000.png"), name).unwrap();
    }
    job.expect(0, "tokenize large --model model --batch-size 1 --shard-rows 20 --out whole");
    let path = programs(&job);
    let line = "large out model --batch-size 1 --shard-rows 20";
    let mut task = slurm(&job, &path, 0, 1, line);
    until("a first shard", || job.path("out/tokens/part-00000.parquet").exists());
    // SAFETY: a signal to a child that wasn't waited for yet.
    assert_eq!(unsafe { libc::kill(task.id() as i32, libc::SIGTERM) }, 0);
    let started = Instant::now();
    let code = task.wait().unwrap().code();
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert_eq!(code, Some(143));
    assert_eq!(asked(&job), "requeue 77_0\n");
    assert!(!job.path("out/dataset.json").exists());
    let mut again = slurm(&job, &path, 0, 1, line);
    assert_eq!(again.wait().unwrap().code(), Some(0));
    job.assert_same("whole", "out");
}

/// The manifest.
fn manifest() -> Value {
    let text = std::fs::read_to_string(Path::new(LAUNCH).join("kubernetes.yaml")).unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

#[test]
fn the_manifest_agrees_with_itself() {
    let spec = &manifest()["spec"];
    assert_eq!((&spec["completionMode"], &spec["completions"]), (&"Indexed".into(), &8.into()));
    assert_eq!(spec["completions"], spec["parallelism"]);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never"); // What backoffLimitPerIndex asks for.
    let container = &pod["containers"][0];
    let command = container["args"][0].as_str().unwrap();
    assert!(command.contains("--rank-from kubernetes --ranks 8"), "{command}");
    let rules = spec["podFailurePolicy"]["rules"].as_array().unwrap();
    let on = rules.iter().find_map(|rule| rule.get("onExitCodes")).unwrap();
    assert_eq!(on["containerName"], container["name"]);
    let (mount, volume) = (&container["volumeMounts"][0], &pod["volumes"][0]);
    assert_eq!(mount["name"], volume["name"]);
    assert_eq!(mount["mountPath"], "/data");
}

/// The command of index `index`.
fn pod(job: &Job, path: &str, index: usize) -> Child {
    pod_of(job, path, index, |script| script)
}

/// That of a script that was changed.
fn pod_of(job: &Job, path: &str, index: usize, change: impl Fn(String) -> String) -> Child {
    let spec = manifest();
    let args = &spec["spec"]["template"]["spec"]["containers"][0]["args"][0];
    let data = job.dir.path().to_str().unwrap();
    let script = args.as_str().unwrap().replace("/data/tokens", "/data/out");
    let script = change(script.replace("/data/", &format!("{data}/")));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).env("PATH", path).env("JOB_COMPLETION_INDEX", index.to_string());
    shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn the_indexes_of_a_kubernetes_job_make_the_output_of_one_job() {
    let job = Job::new(40).trained();
    std::fs::write(job.path("images/broken.png"), b"\x89PNG").unwrap();
    // The manifest names no size of shards; the model's recipe does.
    let recipe = job.path("model/recipe.toml");
    let text =
        std::fs::read_to_string(&recipe).unwrap().replace("shard_rows = 4096", "shard_rows = 3");
    std::fs::write(&recipe, text).unwrap();
    job.expect(1, "tokenize images --model model --out whole");
    assert!(job.path("whole/tokens/part-00013.parquet").exists());
    let path = programs(&job);
    for indexes in [[5, 3, 7, 1], [0, 2, 4, 6]] {
        let mut pods = indexes.map(|index| pod(&job, &path, index));
        pods.iter_mut().for_each(|pod| assert_eq!(pod.wait().unwrap().code(), Some(0)));
    }
    job.assert_same("whole", "out");
    std::fs::remove_dir_all(job.path("model")).unwrap();
    std::fs::write(job.path("model"), b"no model").unwrap();
    assert_eq!(pod(&job, &path, 0).wait().unwrap().code(), Some(2));
}

#[test]
fn sigterm_to_a_pods_shell_ends_vqtok() {
    let job = Job::new(6).trained();
    std::fs::create_dir(job.path("slow")).unwrap();
    let path = programs(&job);
    // In vqtok's place something that says how it ends.
    std::fs::remove_file(job.path("bin/vqtok")).unwrap();
    let ended = job.path("ended");
    let script = format!(
        "#!/bin/sh\ntrap 'echo TERM > {0}; exit 143' TERM\necho on > {0}.on\n\
         while :; do sleep 0.05; done\n",
        ended.display()
    );
    std::fs::write(job.path("bin/vqtok"), script).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(job.path("bin/vqtok"), mode).unwrap();
    // Also before the shell knows whom to pass it on to.
    for wait in ["", "sleep 0.5; "] {
        let late = |script: String| {
            assert_eq!(script.matches("child=$!").count(), 1, "{script}");
            script.replace("child=$!", &format!("{wait}child=$!"))
        };
        let mut shell = pod_of(&job, &path, 0, late);
        until("the pod's program", || job.path("ended.on").exists());
        // SAFETY: a signal to a child that wasn't waited for yet.
        assert_eq!(unsafe { libc::kill(shell.id() as i32, libc::SIGTERM) }, 0);
        until("the shell's end", || shell.try_wait().unwrap().is_some());
        assert_eq!(shell.wait().unwrap().code(), Some(143));
        assert_eq!(std::fs::read_to_string(&ended).unwrap(), "TERM\n");
        std::fs::remove_file(&ended).unwrap();
        std::fs::remove_file(job.path("ended.on")).unwrap();
    }
}
