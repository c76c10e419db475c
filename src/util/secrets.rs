//! Owns taking out of a text what lets its bearer in: passwords and signatures in addresses. Must not
//! know: where addresses lead.

use std::borrow::Cow;

#[cfg(feature = "cli")]
use serde_json::Value;

/// Words in the names of parameters whose values are kept to oneself.
const SECRETS: [&str; 7] = ["sig", "token", "key", "secret", "password", "credential", "auth"];

/// What ends a parameter of an address.
const BETWEEN: [char; 4] = ['&', ';', '?', '#'];

/// The text with `...` in place of the passwords and signatures of all addresses in it; what stands
/// around these stays.
pub(crate) fn without_secrets(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        let names_host = names_only_a_host(before);
        let end = address.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(address.len());
        shown += before;
        take_address(&address[..end], names_host, &mut shown);
        rest = &address[end..];
    }
    Cow::Owned(shown + rest)
}

/// Whether an address has a password before its host: behind a user's name, or a token alone.
pub(crate) fn has_password(address: &str) -> bool {
    let Some((scheme, behind)) = address.split_once("://") else { return false };
    let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':') || names_only_a_host(scheme))
}

/// Whether the scheme at the end of `before` has nothing but users before the `@` of its addresses:
/// Azure's have a container there, which is no secret.
fn names_only_a_host(before: &str) -> bool {
    let before = before.trim_end_matches("://");
    let scheme = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    ["http", "https"].iter().any(|name| scheme.eq_ignore_ascii_case(name))
}

/// Takes them out of every text of a value.
#[cfg(feature = "cli")]
pub(crate) fn take_out(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(shown) = without_secrets(text) {
                *text = shown;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(take_out),
        Value::Object(fields) => fields.values_mut().for_each(take_out),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Adds what follows an address's `://`.
fn take_address(address: &str, names_host: bool, shown: &mut String) {
    let path = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (authority, rest) = address.split_at(path);
    match authority.rsplit_once('@') {
        Some((user, host)) if names_host || user.contains(':') => {
            *shown += "...@";
            *shown += host;
        }
        _ => *shown += authority,
    }
    let query = rest.find(['?', '#']).unwrap_or(rest.len());
    *shown += &rest[..query];
    for parameter in rest[query..].split_inclusive(BETWEEN) {
        let value = parameter.trim_end_matches(BETWEEN);
        match value.split_once('=').filter(|(name, _)| is_secret(name)) {
            Some((name, value)) => {
                // A sentence's own marks behind an address.
                let kept = value.trim_end_matches([':', ',', ')', '\'', '`']).len();
                *shown += &format!("{name}=...{}", &value[kept..]);
            }
            None => *shown += value,
        }
        *shown += &parameter[value.len()..];
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::text::{path, printable};

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (address, shown) in [
            ("s3://user:pass@bucket/a", "s3://...@bucket/a"),
            ("abfs://c@account.dfs/x", "abfs://c@account.dfs/x"),
            ("https://h/x?a=1&X-Amz-Signature=S&b", "https://h/x?a=1&X-Amz-Signature=...&b"),
            ("https://h/x?sv=2020&SIG=abc%3D", "https://h/x?sv=2020&SIG=..."),
            ("https://h/a@b:c/x", "https://h/a@b:c/x"),
            ("https://u:p@h", "https://...@h"),
            ("(HTTPS://token@h/x", "(HTTPS://...@h/x"),
            ("https://u:p@h?sig=S", "https://...@h?sig=..."),
            ("https://h/x?a=b#sig=S", "https://h/x?a=b#sig=..."),
            ("no address?token=x", "no address?token=x"),
        ] {
            assert_eq!(printable(address), shown);
            assert_eq!(path(address), shown);
        }
    }

    #[test]
    fn passwords_are_told_from_other_signs() {
        for address in ["http://u:p@h/x", "s3://:p@b", "https://a@b:c@h?x", "https://token@h"] {
            assert!(has_password(address), "{address}");
        }
        for address in
            ["https://h/a@b:c", "https://h?u:p@x", "abfs://c@account/x", "u:p@h", "s3://b"]
        {
            assert!(!has_password(address), "{address}");
        }
    }

    #[test]
    fn the_words_around_an_address_stay() {
        for (told, shown) in [
            ("https://h/x?sig=S: HTTP 404", "https://h/x?sig=...: HTTP 404"),
            (
                "'https://h/x?sig=S': gone; try s3://a:b@c",
                "'https://h/x?sig=...': gone; try s3://...@c",
            ),
            (
                "one https://h?key=S, two https://h?key=T.",
                // A period is part of a value: the dots of one that was taken out are no end.
                "one https://h?key=..., two https://h?key=...",
            ),
            ("{\"uri\":\"https://h?sig=S\",\"n\":1}", "{\"uri\":\"https://h?sig=...\",\"n\":1}"),
        ] {
            assert_eq!(without_secrets(told), shown);
        }
        assert!(matches!(without_secrets("nothing"), Cow::Borrowed("nothing")));
    }
}
