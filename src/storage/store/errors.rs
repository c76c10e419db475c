//! Owns what stores answer, in one line: no request, no header and nothing of credentials, which
//! servers are known to repeat in what they say.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use object_store::Error;

use crate::storage::outage::{self, Outage};

/// Where credentials are looked for.
const CREDENTIALS: &str = "credentials come from the environment, as the store's own tools take them \
                           (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, \
                           AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; \
                           AWS_SKIP_SIGNATURE=true reads public buckets)";

/// A store's error as the system's would be.
pub(super) fn told(error: Error) -> io::Error {
    let answer = answer(&error);
    let status =
        |code: &str| answer.strip_prefix("HTTP ").is_some_and(|text| text.starts_with(code));
    let (kind, text) = match &error {
        _ if answer.contains("NoSuchBucket") => {
            (ErrorKind::NotFound, "there is no such bucket".to_string())
        }
        Error::NotFound { .. } => return nothing_there(),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => {
            return ErrorKind::AlreadyExists.into();
        }
        Error::NotImplemented { .. } => {
            return io::Error::new(ErrorKind::Unsupported, "the store can't do that");
        }
        Error::InvalidPath { .. } => {
            let text = format!(
                "a name that can't be asked for, with an empty part, `.` or `..`: {answer}; rename it, \
                 or name what lies beside it"
            );
            return io::Error::new(ErrorKind::InvalidInput, text);
        }
        _ if status("401") || status("403") => {
            (ErrorKind::PermissionDenied, format!("the store refuses it ({answer}); {CREDENTIALS}"))
        }
        _ if status("416") => {
            (ErrorKind::UnexpectedEof, "it ends before what was asked for".to_string())
        }
        _ if answer.starts_with("HTTP") => {
            (ErrorKind::Other, format!("the store doesn't answer as it should: {answer}"))
        }
        _ if asks_for_credentials(&error) => {
            (ErrorKind::PermissionDenied, format!("no credentials ({answer}); {CREDENTIALS}"))
        }
        _ if is_no_store(&error) => {
            let text = format!("what answers isn't a store ({answer}); check its endpoint");
            (ErrorKind::Other, text)
        }
        _ => (ErrorKind::Other, format!("the store can't be reached: {answer}")),
    };
    // Credentials that aren't valid are somebody's to mend.
    let passes = answer.starts_with("HTTP") && kind != ErrorKind::PermissionDenied;
    match is_outage(&answer) {
        true => outage::error(kind, Outage { why: text, passes }),
        false => io::Error::new(kind, text),
    }
}

/// What a store says of credentials that aren't valid, or not any more: of everything, then.
const OF_CREDENTIALS: [&str; 6] = [
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// Whether a store that was asked for long enough answers so for its own reasons, whatever is asked
/// for: by a status that says so, or by none.
fn is_outage(answer: &str) -> bool {
    let Some(status) = answer.strip_prefix("HTTP ") else { return true };
    ["5", "401", "408", "429"].iter().any(|code| status.starts_with(code))
        || OF_CREDENTIALS.iter().any(|code| status.contains(code))
}

/// Whether the machine's role was asked for, as is done where the environment has no credentials.
fn asks_for_credentials(error: &dyn StdError) -> bool {
    const PLACES: [&str; 4] =
        ["/latest/api/token", "/latest/meta-data", "/computeMetadata/", "/metadata/identity"];
    says(error, |text| PLACES.iter().any(|place| text.contains(place)))
}

/// Whether an answer came that no store gives, such as the page of a proxy.
fn is_no_store(error: &dyn StdError) -> bool {
    says(error, |text| text.starts_with("Got invalid") && text.contains("response"))
}

/// Whether one of an error's reasons is `such` a text.
fn says(error: &dyn StdError, such: impl Fn(&str) -> bool) -> bool {
    let mut reason = Some(error);
    while let Some(error) = reason {
        if such(&error.to_string()) {
            return true;
        }
        reason = error.source();
    }
    false
}

/// Settings that make no store, as the system's error would be.
pub(super) fn unusable(error: Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, answer(&error))
}

/// What there is to say of an address where nothing lies.
pub(super) fn nothing_there() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "nothing lies at this address")
}

/// What a server said: `HTTP 503 SlowDown: Please reduce your request rate`; else the deepest reason.
fn answer(error: &dyn StdError) -> String {
    let (mut deepest, mut said) = (error, None);
    loop {
        let text = deepest.to_string();
        if let Some((_, status)) = text.split_once("status code: ") {
            said = Some(status.to_string());
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => break,
        }
    }
    match said {
        Some(status) => of_status(&status),
        None => one_line(&deepest.to_string()),
    }
}

/// Of `503 Service Unavailable: <Error><Code>...`.
fn of_status(text: &str) -> String {
    let (status, body) = text.split_once(':').unwrap_or((text, ""));
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (inner, _) = rest.split_once(&format!("</{name}>"))?;
        Some(one_line(inner))
    };
    // What refuses credentials may repeat them in its message; the code says enough.
    let refuses = status.starts_with("401") || status.starts_with("403");
    let told = [element("Code"), element("Message").filter(|_| !refuses)];
    let told: Vec<String> = told.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    match told.is_empty() {
        true => format!("HTTP {}", one_line(status)),
        false => format!("HTTP {}, {}", one_line(status), told.join(": ")),
    }
}

/// In one line, without what follows a `?` in addresses: that may hold a signature.
pub(super) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    let words = text.split_whitespace().map(|word| match (word.contains("://"), word.find('?')) {
        (true, Some(at)) => &word[..at],
        _ => word,
    });
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_string().into() }
    }

    #[test]
    fn an_answer_is_one_line_without_secrets() {
        let body = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n\
                    <Error><Code>InvalidAccessKeyId</Code><Message>No key AKIASECRET.\n\
                    </Message><AWSAccessKeyId>AKIASECRET</AWSAccessKeyId></Error>";
        let said = told(generic(body)).to_string();
        assert_eq!(
            said,
            format!("the store refuses it (HTTP 403 Forbidden, InvalidAccessKeyId); {CREDENTIALS}")
        );
        let said = told(generic("error sending request for url (https://a.b/c?sig=SECRET&x=1)"));
        assert!(said.to_string().ends_with("for url (https://a.b/c"), "{said}");
        let source = || Box::<dyn StdError + Send + Sync>::from("status code: 401 X: AKIASECRET");
        let denied = told(Error::PermissionDenied { path: "p".into(), source: source() });
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        assert!(denied.to_string().starts_with("the store refuses it (HTTP 401 X); credentials"));
        assert!(outage::of(&denied).is_some(), "nobody with these credentials");
        let role = told(generic("error sending request for url (http://a/latest/api/token)"));
        assert!(role.to_string().starts_with("no credentials (error sending"), "{role}");
        let gone = told(Error::NotFound { path: "p".into(), source: source() });
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn outages_are_told_from_what_is_wrong_with_a_request() {
        for (text, is) in [
            ("Server returned non-2xx status code: 503 Service Unavailable: <Error/>", true),
            ("Server returned non-2xx status code: 429 Too Many Requests: ", true),
            ("Connection refused (os error 111)", true),
            ("operation timed out", true),
            ("Server returned non-2xx status code: 400 Bad Request: <Error/>", false),
            ("Server returned non-2xx status code: 416 Range: ", false),
        ] {
            assert_eq!(outage::of(&told(generic(text))).is_some(), is, "{text}");
        }
        let forbidden = |code: &str| {
            let text = format!("status code: 403 Forbidden: <Error><Code>{code}</Code></Error>");
            told(Error::PermissionDenied { path: "p".into(), source: text.into() })
        };
        assert!(outage::of(&forbidden("ExpiredToken")).is_some());
        assert!(outage::of(&forbidden("AccessDenied")).is_none(), "it may be this object alone");
    }
}
