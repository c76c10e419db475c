//! Owns how the command line calls settings: `shard_rows` is `--shard-rows`.

use serde_json::Value;

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

/// Every remark in a value, as [`remark`].
pub(super) fn name_in(value: &mut Value) {
    match value {
        Value::String(text) => *text = remark(text),
        Value::Array(values) => values.iter_mut().for_each(name_in),
        Value::Object(fields) => fields.values_mut().for_each(name_in),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_setting_in_an_event_is_named_as_a_flag_and_nothing_else() {
        let notice = format!("no {}", settings::SIZE);
        let mut fields =
            json!({"a": [notice, {"b": notice}], "key": "\u{2}not a setting\u{3}", "n": 1});
        name_in(&mut fields);
        let expected = json!({"a": ["no --size", {"b": "no --size"}], "key": "\u{2}not a setting\u{3}", "n": 1});
        assert_eq!(fields, expected);
    }

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
