//! Owns where Python keeps what pip installed, found without running Python.
//! Must not know: what is looked for there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Folders that hold packages, those of the environment that is active first.
pub(super) fn site_packages() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut found = Vec::new();
    if let Some(paths) = var("PYTHONPATH") {
        found.extend(std::env::split_paths(&paths));
    }
    for prefix in ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(var) {
        found.extend(of_prefix(Path::new(&prefix)));
    }
    for folder in var("PATH").iter().flat_map(std::env::split_paths) {
        found.extend(of_programs(&folder));
    }
    if let Some(home) = var("HOME") {
        found.extend(of_prefix(&Path::new(&home).join(".local")));
    }
    for prefix in ["/usr/local", "/usr"] {
        found.extend(of_prefix(Path::new(prefix)));
    }
    let mut known = Vec::new();
    found.retain(|folder| {
        !known.contains(folder) && {
            known.push(folder.clone());
            folder.is_dir()
        }
    });
    found
}

/// Of the Python in a folder of programs; where pyenv's stands for one, of that.
fn of_programs(folder: &Path) -> Vec<PathBuf> {
    let program = folder.join("python3");
    if !program.exists() {
        return Vec::new();
    }
    let prefix = |program: &Path| program.parent().and_then(Path::parent).map(Path::to_path_buf);
    let mut prefixes: Vec<PathBuf> = prefix(&program).into_iter().collect();
    if folder.ends_with("shims")
        && let Some(root) = folder.parent()
        && let Ok(version) = std::fs::read_to_string(root.join("version"))
    {
        let named = version.lines().map(|line| root.join("versions").join(line.trim()));
        prefixes = named.collect();
    }
    // A link leads to where the program was installed, which a virtual environment may do without.
    prefixes.extend(program.canonicalize().ok().as_deref().and_then(prefix));
    prefixes.iter().flat_map(|prefix| of_prefix(prefix)).collect()
}

/// `lib/python3*/site-packages` and what Debian calls it.
fn of_prefix(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["lib", "lib64"].map(|lib| prefix.join(lib)) {
        let Ok(entries) = std::fs::read_dir(&lib) else { continue };
        let of_python = |name: &OsString| name.to_string_lossy().starts_with("python3");
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<OsString> = names.filter(of_python).collect();
        names.sort();
        for name in names.iter().rev() {
            found.extend(["site-packages", "dist-packages"].map(|kind| lib.join(name).join(kind)));
        }
    }
    found
}

/// Where Python itself would look for a package: the last resort, as it takes a process.
pub(super) fn asked(package: &str) -> Option<PathBuf> {
    let script = format!(
        "import importlib.util as u; s = u.find_spec('{package}'); \
         print(s.submodule_search_locations[0] if s else '')"
    );
    let output = std::process::Command::new("python3")
        .args(["-I", "-c", &script])
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(path.trim())).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_beside_the_program_and_behind_the_stand_in_of_pyenv() {
        let dir = tempfile::tempdir().unwrap();
        let made = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let plain = made("env/lib/python3.12/site-packages");
        std::fs::write(made("env/bin").join("python3"), "").unwrap();
        assert_eq!(of_programs(&dir.path().join("env/bin")).first(), Some(&plain));
        let behind = made("pyenv/versions/3.11.9/lib/python3.11/site-packages");
        std::fs::write(made("pyenv/shims").join("python3"), "").unwrap();
        std::fs::write(dir.path().join("pyenv/version"), "3.11.9\n").unwrap();
        assert!(of_programs(&dir.path().join("pyenv/shims")).contains(&behind));
        assert!(of_programs(&dir.path().join("nothing")).is_empty());
    }
}
