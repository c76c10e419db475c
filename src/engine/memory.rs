//! Owns how much memory there is to take: where a system gives more than it has, it kills the
//! process that uses it.

use std::path::Path;

/// Bytes that the system can still give, or what a control group lets its processes have in all
/// where that is less (its page cache counts as used there, so what is left of it says little).
/// None where nothing tells, as off Linux.
pub(crate) fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let free = from_meminfo(&read("/proc/meminfo")?)?;
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let limits =
        limit_files(&groups).into_iter().filter_map(|file| read(&file)?.trim().parse().ok());
    Some(limits.fold(free, u64::min))
}

/// `MemAvailable` of `/proc/meminfo`.
fn from_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files of the limits that `/proc/self/cgroup` leads to: of the group and of all above it,
/// the second version of groups and the first. A container sees its own group as the root.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let above = Path::new(group).ancestors();
        files.extend(above.map(|group| {
            let group = group.to_string_lossy();
            format!("{root}{}/{file}", group.trim_end_matches('/'))
        }));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_as_the_system_writes_it() {
        let text = "MemTotal:       24684096 kB\nMemFree:  1 kB\nMemAvailable:   24174008 kB\n";
        assert_eq!(from_meminfo(text), Some(24_174_008 * 1024));
        assert_eq!(from_meminfo("MemTotal: 1 kB\n"), None);
        assert_eq!(from_meminfo("MemAvailable: 18446744073709551615 kB\n"), None);
        #[cfg(target_os = "linux")]
        assert!((1 << 20..1 << 50).contains(&available().unwrap()));
    }

    #[test]
    fn limits_of_both_versions_of_groups_are_found() {
        assert_eq!(
            limit_files("0::/a/b\n"),
            ["a/b/", "a/", ""].map(|group| format!("/sys/fs/cgroup/{group}memory.max"))
        );
        let first = "9:name=systemd:/\n5:devices:/\n4:memory:/x\n";
        assert_eq!(
            limit_files(first),
            ["x/", ""].map(|group| format!("/sys/fs/cgroup/memory/{group}memory.limit_in_bytes"))
        );
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert!(limit_files("").is_empty());
    }
}
