//! Owns which bucket each image of a new plan goes into, by its header. Must not know: how a header
//! is read, what becomes of the plan.
//!
//! Headers are read on all threads, some images at a time; what can only be read in its order is
//! read on the way. An image without a readable header goes into the bucket nearest to a square,
//! where it fails when it is tokenized, unless it comes to be one of that bucket.

use std::collections::VecDeque;
use std::iter::Fuse;

use rayon::prelude::*;

use crate::data::BucketSizes;
use crate::data::prepare::Preparation;
use crate::data::source::fetch::{Fetched, Fetcher};
use crate::error::{Error, Result};
use crate::pipeline::image_at;
use crate::tokens::{Bucket, PlanRow, Today};

/// Images whose headers are read at a time.
const TOGETHER: usize = 1024;

/// What is found of the inputs, each image with its bucket.
pub(super) struct Bucketed<'a, I, S> {
    found: Fuse<I>,
    buckets: &'a BucketSizes,
    preparation: &'a Preparation,
    stopped: S,
    fetcher: Fetcher,
    ready: VecDeque<Result<Today>>,
}

/// An item whose image's size is known or still to be read.
enum Sized {
    Known(Result<Today>),
    Read(PlanRow, Option<(u32, u32)>),
    Unread(PlanRow, Fetched),
}

impl<'a, I: Iterator<Item = Result<Today>>, S: Fn() -> bool> Bucketed<'a, I, S> {
    /// Of `found`; `stopped` says whether to give up.
    pub(super) fn new(
        found: I,
        buckets: &'a BucketSizes,
        preparation: &'a Preparation,
        stopped: S,
    ) -> Bucketed<'a, I, S> {
        let fetcher = Fetcher::of_heads(preparation.limits);
        let found = found.fuse();
        Bucketed { found, buckets, preparation, stopped, fetcher, ready: VecDeque::new() }
    }

    fn fetch(&mut self, item: Result<Today>) -> Sized {
        let row = match item {
            Ok(Today::Image(row)) if row.bucket.is_none() => row,
            // With its bucket, where who listed it has looked.
            other => return Sized::Known(other),
        };
        let image = image_at(row.uri.clone(), &row);
        match self.fetcher.fetch(&image) {
            // Its bytes aren't kept.
            fetched @ Fetched::Read(_) => {
                let Preparation { orientation, limits, .. } = self.preparation;
                match fetched.size(&image, *orientation, limits) {
                    Ok(size) => Sized::Read(row, size),
                    Err(error) => Sized::Known(Err(error)),
                }
            }
            fetched => Sized::Unread(row, fetched),
        }
    }

    fn fill(&mut self) {
        let mut some = Vec::with_capacity(TOGETHER);
        while some.len() < TOGETHER
            && let Some(item) = self.found.next()
        {
            let item = self.fetch(item);
            some.push(item);
        }
        let Bucketed { buckets, preparation, ready, .. } = self;
        let Preparation { orientation, limits, .. } = preparation;
        let planned = |item| match item {
            Sized::Known(item) => item,
            Sized::Read(row, size) => Ok(Today::Image(in_bucket(row, size, buckets))),
            Sized::Unread(row, fetched) => {
                let image = image_at(row.uri.clone(), &row);
                let size = fetched.size(&image, *orientation, limits)?;
                Ok(Today::Image(in_bucket(row, size, buckets)))
            }
        };
        ready.extend(some.into_par_iter().map(planned).collect::<Vec<_>>());
    }
}

fn in_bucket(row: PlanRow, size: Option<(u32, u32)>, buckets: &BucketSizes) -> PlanRow {
    let (width, height) = size.map_or_else(|| buckets.squarest(), |size| buckets.nearest(size));
    PlanRow { bucket: Some(Bucket { width, height, position: row.ordinal }), ..row }
}

impl<I: Iterator<Item = Result<Today>>, S: Fn() -> bool> Iterator for Bucketed<'_, I, S> {
    type Item = Result<Today>;

    fn next(&mut self) -> Option<Result<Today>> {
        if self.ready.is_empty() {
            if (self.stopped)() {
                return Some(Err(Error::Interrupted));
            }
            self.fill();
        }
        self.ready.pop_front()
    }
}
