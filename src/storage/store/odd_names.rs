//! Owns listing a folder in which some names are such that no request can carry them: with an empty
//! part, with `.` or `..`, with control characters. The store's client gives a page of a list up for one
//! of them; so the pages are made smaller until it stands alone, and the list goes on behind it.

use std::collections::BTreeMap;

use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::{Error as NameError, Path as Key};
use object_store::{Error, ListResult, ObjectMeta};

use crate::storage::facts::Odd;

/// Names on a page at most, as stores have it.
const PAGE: usize = 1000;

/// Odd names of one folder: with more, it isn't listed.
const ODD_MAX: usize = 100;

/// What lies in a folder, and the names that can't be asked for.
pub(super) async fn list(
    lists: &dyn PaginatedListStore,
    folder: &Key,
) -> Result<(ListResult, Vec<Odd>), Error> {
    let prefix = match folder.as_ref() {
        "" => String::new(),
        name => format!("{name}/"),
    };
    let (mut found, mut odd) = (Found::default(), Vec::new());
    let (mut after, mut page) = (None, PAGE);
    loop {
        let options = PaginatedListOptions {
            offset: after.clone(),
            delimiter: Some("/".into()),
            max_keys: Some(page),
            ..PaginatedListOptions::default()
        };
        let asked = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        match lists.list_paginated(asked, options).await {
            Ok(part) => {
                let more = part.page_token.is_some();
                let last = found.take(part.result, folder, &prefix);
                if !more {
                    return Ok((found.all(), odd));
                }
                // Such a list would never end, and what is behind it isn't nothing.
                if last <= after {
                    let source = "its list of names doesn't come forward".into();
                    return Err(Error::Generic { store: "list", source });
                }
                (after, page) = (last, (2 * page).min(PAGE));
            }
            Err(Error::InvalidPath { .. }) if page > 1 => page /= 2,
            Err(Error::InvalidPath { source }) if odd.len() < ODD_MAX => {
                let Some((name, reason)) = named(&source) else {
                    return Err(Error::InvalidPath { source });
                };
                after = Some(behind(name));
                let name = name.strip_prefix(prefix.as_str()).unwrap_or(name).to_string();
                odd.push(Odd { name, reason });
            }
            Err(error) => return Err(error),
        }
    }
}

/// What has been listed so far, each name once.
#[derive(Default)]
struct Found {
    objects: BTreeMap<Key, ObjectMeta>,
    folders: BTreeMap<Key, ()>,
}

impl Found {
    /// Takes a page; says behind which name the next one begins.
    fn take(&mut self, page: ListResult, folder: &Key, prefix: &str) -> Option<String> {
        let name = |object: &ObjectMeta| match object.location == *folder {
            // The folder's own mark.
            true => prefix.to_string(),
            false => object.location.to_string(),
        };
        let folders = page.common_prefixes.iter().map(|key| behind(&format!("{key}/")));
        let last = page.objects.iter().map(name).chain(folders).max();
        self.folders.extend(page.common_prefixes.into_iter().map(|key| (key, ())));
        self.objects
            .extend(page.objects.into_iter().map(|object| (object.location.clone(), object)));
        last
    }

    fn all(self) -> ListResult {
        ListResult {
            common_prefixes: self.folders.into_keys().collect(),
            objects: self.objects.into_values().collect(),
            extensions: Default::default(),
        }
    }
}

/// The last name that begins as a folder does; for an object, its own.
fn behind(name: &str) -> String {
    match name.ends_with('/') {
        true => format!("{name}{}", char::MAX),
        false => name.to_string(),
    }
}

/// The name that can't be asked for, and why.
fn named(error: &NameError) -> Option<(&str, String)> {
    match error {
        NameError::EmptySegment { path } => Some((path, reason("an empty part"))),
        NameError::BadSegment { path, .. } if path.chars().any(|c| c.is_ascii_control()) => {
            Some((path, reason("a control character")))
        }
        NameError::BadSegment { path, .. } => Some((path, reason("`.` or `..`"))),
        _ => None,
    }
}

fn reason(what: &str) -> String {
    format!("a name with {what} can't be asked for; rename it")
}
