//! Owns which names are hidden, or a system's own: what no user means by "the images in here".

/// Whose a name is that isn't the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It begins with a dot: `.git`, `.ipynb_checkpoints`, `.Trash-1000`, `._00.png`.
    Hidden,
    /// A system keeps thumbnails, indices, rubbish there.
    System,
}

/// In lower case: file systems of those who make them don't tell cases apart.
const SYSTEM: [&[u8]; 20] = [
    b"@eadir",                    // Synology: thumbnails, in a folder named like the picture
    b"@recently-snapshot",        // QNAP
    b"@recycle",                  // QNAP
    b"#recycle",                  // Synology
    b"#snapshot",                 // Synology
    b"~snapshot",                 // NetApp
    b"__macosx",                  // archives made on a Mac: AppleDouble twins of every file
    b"lost+found",                // ext file systems
    b"network trash folder",      // AFP servers
    b"temporary items",           // AFP servers
    b"@tmp",                      // Synology
    b"$recycle.bin",              // Windows
    b"recycler",                  // Windows XP
    b"found.000",                 // chkdsk
    b"system volume information", // Windows
    b"thumbs.db",                 // Windows
    b"thumbs.db:encryptable",     // Windows, seen through SMB
    b"ehthumbs.db",               // Windows Media Center
    b"desktop.ini",               // Windows
    b"icon\r",                    // macOS
];

/// Whose `name` is; None for a user's.
pub(crate) fn whose(name: &[u8]) -> Option<Whose> {
    if name.first() == Some(&b'.') {
        return Some(Whose::Hidden);
    }
    // The longest of them bounds the work.
    let system = name.len() <= 25 && SYSTEM.iter().any(|known| name.eq_ignore_ascii_case(known));
    system.then_some(Whose::System)
}

/// Whether a key lies in a hidden or system folder, or is such a file.
pub(crate) fn is_hidden(key: &str) -> bool {
    key.split('/').any(|part| whose(part.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_systems_are_told_from_those_of_users_in_any_case() {
        for name in [".git", "._00.png", ".DS_Store", ".Trash-1000", ".ipynb_checkpoints", ".x.jpg"]
        {
            assert_eq!(whose(name.as_bytes()), Some(Whose::Hidden), "{name}");
        }
        let names = ["@eaDir", "@EADIR", "__MACOSX", "lost+found", "Thumbs.db", "THUMBS.DB"];
        let more =
            ["Desktop.ini", "$RECYCLE.BIN", "System Volume Information", "#recycle", "RECYCLER"];
        for name in names.into_iter().chain(more) {
            assert_eq!(whose(name.as_bytes()), Some(Whose::System), "{name}");
        }
        let users = ["cat", "macosx", "_x.png", "a.hidden", "lost", "#1.jpg", "@home", "~me", "…"];
        for name in users.into_iter().chain(["thumbs.db.png", "desktop.ini.jpg", ""]) {
            assert_eq!(whose(name.as_bytes()), None, "{name}");
        }
        assert!(is_hidden("a/.b/c.png") && is_hidden("a/@eaDir/c.png") && is_hidden("._c.png"));
        assert!(!is_hidden("a/b/c.png"));
    }

    #[test]
    fn no_name_is_longer_than_the_bound() {
        assert!(SYSTEM.iter().all(|name| name.len() <= 25 && name.to_ascii_lowercase() == *name));
    }
}
