//! Owns the stand-ins for CUDA's libraries: compiled here from `tests/support/cuda` and the project's
//! own kernels, put in front of the loader's path, with what they counted at the end. Must not know:
//! what is tested with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The folder of NVRTC, where it isn't on the loader's path: such as `nvidia/cu13/lib` of the wheel
/// nvidia-cuda-nvrtc. With it set nothing is skipped.
const NVRTC: &str = "VQTOK_NVRTC";

/// The stand-ins for an element type, in front of these folders.
pub struct StandIns {
    folders: Vec<PathBuf>,
}

/// The stand-ins for `f32` or `bf16`; None, after a line that says so, where there is no C compiler.
pub fn stand_ins(element: &str) -> Option<StandIns> {
    let all = built()?;
    Some(StandIns { folders: vec![all.join(element), all.join("nvrtc")] })
}

/// The same with NVIDIA's own compiler of the kernels; None where that isn't there.
pub fn stand_ins_with_nvrtc(element: &str) -> Option<StandIns> {
    use vqtok::internals::engine::cuda::libraries::Library;
    let mut folders = vec![built()?.join(element)];
    if let Some(folder) = std::env::var_os(NVRTC) {
        let folder = PathBuf::from(folder);
        assert!(folder.join("libnvrtc.so.13").exists(), "{NVRTC} has no libnvrtc.so.13");
        folders.push(folder);
    } else if !Library::Nvrtc.is_present() {
        eprintln!("skipped: there is no libnvrtc.so.13 (set {NVRTC} to its folder)");
        return None;
    }
    Some(StandIns { folders })
}

fn built() -> Option<&'static Path> {
    static ALL: OnceLock<Result<TempDir, String>> = OnceLock::new();
    let built = ALL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        ["f32", "bf16"].iter().try_for_each(|element| build(folder.path(), element))?;
        Ok(folder)
    });
    match built {
        Ok(folder) => Some(folder.path()),
        Err(reason) => {
            assert!(std::env::var_os(NVRTC).is_none(), "{NVRTC} is set: {reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// A shared library of one file.
pub fn compile(source: &Path, library: &Path, options: &[&str]) -> Result<(), String> {
    let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    compiler.args(["-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]);
    compiler.arg(format!("-Wl,-soname,{}", library.file_name().unwrap().display()));
    compiler.arg("-o").args([library, source]).args(options);
    let status = compiler.status().map_err(|error| format!("there is no C compiler: {error}"))?;
    assert!(status.success(), "{} doesn't compile", source.display());
    Ok(())
}

fn build(root: &Path, element: &str) -> Result<(), String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (sources, folder) = (manifest.join("tests/support/cuda"), root.join(element));
    let nvrtc = root.join("nvrtc");
    [&folder, &nvrtc].iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
    compile(&sources.join("nvrtc.c"), &nvrtc.join("libnvrtc.so.13"), &[])?;
    let kernels = format!("-I{}", manifest.join("src/engine/cuda").display());
    // Undefined behaviour of a kernel ends the run; fortified long jumps refuse to change stacks.
    let mut options = vec![
        kernels.as_str(),
        "-fsanitize=undefined",
        "-fsanitize-undefined-trap-on-error",
        "-U_FORTIFY_SOURCE",
        "-lm",
        "-lpthread",
    ];
    if element == "bf16" {
        options.push("-DVQTOK_BF16");
    }
    compile(&sources.join("driver.c"), &folder.join("libcuda.so"), &options)?;
    let beside = format!("-L{}", folder.display());
    for (source, library) in [("cublas.c", "libcublas.so.13"), ("cudnn.c", "libcudnn.so.9")] {
        compile(&sources.join(source), &folder.join(library), &[&beside, "-lcuda"])?;
    }
    Ok(())
}

impl StandIns {
    /// Puts the stand-ins in front of a command's libraries, and what they count into `report`.
    pub fn serve(&self, command: &mut Command, report: &Path) {
        let path = std::env::join_paths(&self.folders).unwrap();
        command.env("LD_LIBRARY_PATH", path).env("FAKE_CUDA_REPORT", report);
        // A cache of the run's own.
        command.env("XDG_CACHE_HOME", report.with_extension("cache"));
    }
}

/// What the stand-ins counted until a process ended.
pub struct Counts(Value);

impl Counts {
    /// Of a report.
    pub fn read(report: &Path) -> Counts {
        Counts(serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap())
    }

    /// A count by its name.
    pub fn of(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// Everything that was taken has been given back, and nothing was asked for wrongly.
    pub fn assert_clean(&self) {
        for name in ["allocations", "bytes", "pinned", "contexts", "objects", "handles", "misuses"]
        {
            assert_eq!(self.of(name), 0, "{name}: {}", self.0);
        }
    }
}
