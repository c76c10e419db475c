//! Owns how the command line calls settings: `shard_rows` is `--shard-rows`.

use crate::error::Error;
use crate::util::settings;

/// The flag of a setting.
fn flag(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}

/// An error as a user of the command line reads it.
pub(super) fn message(error: &Error) -> String {
    error.naming_settings(flag)
}

/// A remark that may name settings, as [`message`].
pub(super) fn remark(text: &str) -> String {
    settings::named(text, flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_a_message_names_is_a_flag() {
        let mut command = crate::cli::command_line();
        command.build();
        let commands: Vec<_> = command.get_subcommands().collect();
        for setting in settings::ALL {
            let flag = flag(setting.0);
            let takes = |command: &&clap::Command| {
                command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"))
            };
            assert!(commands.iter().any(takes), "{flag}");
        }
    }
}
