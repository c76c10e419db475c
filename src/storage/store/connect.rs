//! Owns making the store behind an address, by the settings of the environment.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::errors::unusable;
use super::objects::{Client, Objects};
use super::runtime;
use super::web::Web;
use crate::storage::address::{Address, parts};
use crate::storage::stores::Store;
use crate::util::text;

/// How long one answer is waited for: parts of a file, and lists.
const READ_MAX: Duration = Duration::from_secs(30);
/// How long sending one file may take.
const WRITE_MAX: Duration = Duration::from_secs(600);

/// The store of an address; the same one for all of a bucket.
pub(crate) fn connect(address: &Path) -> io::Result<Arc<dyn Store>> {
    static STORES: Mutex<Option<HashMap<String, Arc<dyn Store>>>> = Mutex::new(None);
    let of = parts(address).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    check(&of)?;
    let name = match of.scheme {
        "http" | "https" => "the web".to_string(),
        scheme => format!("{scheme}://{}", of.authority),
    };
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    let stores = stores.get_or_insert_default();
    if let Some(store) = stores.get(&name) {
        return Ok(Arc::clone(store));
    }
    check_endpoints(std::env::vars_os())?;
    runtime::check_patience(runtime::set_patience())?;
    install_crypto();
    let store: Arc<dyn Store> = match of.scheme {
        "http" | "https" => Arc::new(Web::new()?),
        _ => Arc::new(Objects::new(made(&of, READ_MAX)?, made(&of, WRITE_MAX)?)),
    };
    stores.insert(name, Arc::clone(&store));
    Ok(store)
}

/// Refuses an address without a bucket, and one that holds a password.
fn check(address: &Address<'_>) -> io::Result<()> {
    let refused = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if address.authority.is_empty() {
        return refused("it names no bucket or host");
    }
    let is_azure = address.scheme.starts_with("a");
    if !is_azure && address.authority.contains('@') {
        return refused("credentials don't belong into addresses; give them by the environment");
    }
    Ok(())
}

/// Refuses what the environment names as a store's endpoint and is no address: the clients panic.
fn check_endpoints(vars: impl Iterator<Item = (OsString, OsString)>) -> io::Result<()> {
    for (name, value) in vars {
        let name = name.to_string_lossy();
        let is_endpoint = name.to_ascii_uppercase().contains("ENDPOINT");
        let ours = ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|start| name.starts_with(start));
        let value = value.to_string_lossy();
        let url = reqwest::Url::parse(&value);
        if ours && is_endpoint && !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            let value = text::quoted(&text::printable(&value));
            let text = format!(
                "the environment's {name} is {value}, which is no address: write https:// or http:// \
                 and the host"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    Ok(())
}

/// The cryptography of TLS, for all of the process.
fn install_crypto() {
    static ONCE: Once = Once::new();
    // Somebody else in the process may have chosen one; that does as well.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn made(address: &Address<'_>, longest: Duration) -> io::Result<Client> {
    let options = ClientOptions::new()
        .with_timeout(longest)
        .with_connect_timeout(Duration::from_secs(10))
        // Whoever names an endpoint without TLS wants that.
        .with_allow_http(endpoint_without_tls());
    // Each pause is drawn from 0.2 s to `base` times the last one: with 2 they would stay short.
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(5),
        base: 3.0,
    };
    // Time bounds them alone: who gave up sooner would be asked for another minute.
    let retry =
        RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: runtime::patience() };
    let bucket = address.authority;
    let client: object_store::Result<Client> = match address.scheme {
        "s3" | "s3a" => {
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
            let built = builder.with_client_options(options).with_retry(retry).build();
            built.map(Client::of)
        }
        "gs" | "gcs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            let built = builder.with_client_options(options).with_retry(retry).build();
            built.map(Client::of)
        }
        scheme => {
            let url = format!("{scheme}://{bucket}/");
            let builder = MicrosoftAzureBuilder::from_env().with_url(url);
            let built = builder.with_client_options(options).with_retry(retry).build();
            built.map(Client::of)
        }
    };
    client.map_err(unusable)
}

fn endpoint_without_tls() -> bool {
    std::env::vars_os().any(|(name, value)| {
        name.to_string_lossy().to_ascii_uppercase().contains("ENDPOINT")
            && value.as_encoded_bytes().starts_with(b"http://")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address() {
        let check =
            |name: &str, value: &str| check_endpoints([(name.into(), value.into())].into_iter());
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AZURE_STORAGE_ENDPOINT", "https://h/x"),
            ("OTHER_ENDPOINT", "h:9"),
            ("AWS_REGION", ""),
        ] {
            check(name, value).unwrap();
        }
        for value in ["", "127.0.0.1:9", "localhost:9", "not a url", "ftp://h"] {
            let said = check("AWS_ENDPOINT_URL", value).unwrap_err().to_string();
            assert!(said.starts_with("the environment's AWS_ENDPOINT_URL is \""), "{said}");
        }
    }
}
