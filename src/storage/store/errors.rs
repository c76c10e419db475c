//! Owns what stores answer, in one line: no request, no header and nothing of credentials, which
//! servers are known to repeat in what they say.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use object_store::Error;

/// Where credentials are looked for.
const CREDENTIALS: &str = "credentials come from the environment, as the store's own tools take them \
                           (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, \
                           AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; \
                           AWS_SKIP_SIGNATURE=true reads public buckets)";

/// A store's error as the system's would be.
pub(super) fn told(error: Error) -> io::Error {
    let answer = answer(&error);
    let (kind, text) = match &error {
        _ if answer.contains("NoSuchBucket") => {
            (ErrorKind::NotFound, "there is no such bucket".to_string())
        }
        Error::NotFound { .. } => return nothing_there(),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => {
            return ErrorKind::AlreadyExists.into();
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            (ErrorKind::PermissionDenied, format!("the store refuses it ({answer}); {CREDENTIALS}"))
        }
        Error::NotImplemented { .. } => {
            (ErrorKind::Unsupported, "the store can't do that".to_string())
        }
        Error::InvalidPath { .. } => (
            ErrorKind::InvalidInput,
            "a name that can't be asked for: an empty part, `.` or `..`".to_string(),
        ),
        _ if answer.starts_with("HTTP") => {
            (ErrorKind::Other, format!("the store doesn't answer as it should: {answer}"))
        }
        _ => (ErrorKind::Other, format!("the store can't be reached: {answer}")),
    };
    io::Error::new(kind, text)
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
    let told = [element("Code"), element("Message")];
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
                    <Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.\n\
                    </Message><AWSAccessKeyId>AKIASECRET</AWSAccessKeyId></Error>";
        let said = told(generic(body)).to_string();
        assert_eq!(
            said,
            "the store doesn't answer as it should: HTTP 403 Forbidden, InvalidAccessKeyId: The key \
             does not exist."
        );
        let said = told(generic("error sending request for url (https://a.b/c?sig=SECRET&x=1)"));
        assert!(said.to_string().ends_with("for url (https://a.b/c"), "{said}");
        let source = || Box::<dyn StdError + Send + Sync>::from("status code: 401 X: AKIASECRET");
        let denied = told(Error::PermissionDenied { path: "p".into(), source: source() });
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        assert!(denied.to_string().starts_with("the store refuses it (HTTP 401 X); credentials"));
        let gone = told(Error::NotFound { path: "p".into(), source: source() });
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
