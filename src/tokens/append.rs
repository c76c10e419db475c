//! Owns appending to an output: one more plan behind those that are there, with images that none of
//! them has. Must not know: how images are found, which of them are the same.

use super::arrangement::{Arrangement, must_lie_as_planned};
use super::arrivals::{Arrivals, Judge};
use super::cleanup;
use super::commit::Published;
use super::identity::Identity;
use super::plan::{About, Plan, PlanFile, Today, write};
use super::{duplicate_keys, occupied};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::panics;

/// Holds today's images against those of all plans of an output, in any order.
///
/// # Errors
/// [`Error::Mismatch`](crate::Error::Mismatch) naming the first setting that differs from those that
/// the output was made with; those of [`Arrivals::of`].
pub(crate) fn hold(
    plan: &Plan,
    identity: &Identity,
    items: &mut dyn Iterator<Item = Result<Today>>,
    judge: Judge<'_>,
) -> Result<Arrivals> {
    let _at = panics::at("plan", None);
    plan.must_be_of(identity)?;
    must_lie_as_planned(plan)?;
    plan.files().iter().try_for_each(PlanFile::prove)?;
    plan.must_be_as_written()?;
    cleanup::remove_orphans_of_plans(plan.dir())?;
    Arrivals::of(plan, items, judge)
}

/// Appends a plan with what is new; all plans with it. None where another job was faster, with other
/// images.
///
/// # Errors
/// Two new images of one key; shards of another output in its partitions' places; what the system
/// refuses.
/// `placed` puts the images into their buckets, where the output has some.
#[expect(clippy::needless_lifetimes, reason = "`I` holds what it is made of")]
pub(crate) fn append<'a, I: Iterator<Item = Result<Today>>>(
    plan: &Plan,
    arrivals: &'a Arrivals,
    taken: &str,
    placed: impl FnOnce(Box<dyn Iterator<Item = Result<Today>> + 'a>) -> I,
) -> Result<Option<Plan>> {
    let _at = panics::at("plan", None);
    let dir = plan.dir();
    let Some(listed) = arrivals.listed.as_ref().filter(|_| arrivals.new > 0) else {
        return Plan::open(dir).map(Some);
    };
    let base = plan.last().next();
    let path = dir.join(base.name());
    let listed_at = listed.file.listed_at();
    let about = About {
        identity: plan.identity(),
        base: &base,
        taken,
        listed_at,
        in_buckets: true,
        classes: plan.last().classes(),
        arrangement: Arrangement::of(dir, &base, None)?,
    };
    let written = write(&path, about, placed(Box::new(listed.arrived(base.ordinal as i64)?)))?;
    let (ours, digest) = (written.open(base.number)?, written.digest.clone());
    duplicate_keys::check(ours.rows(), || ours.all_rows())?;
    if !storage::exists(&path).map_err(Error::io(&path))? {
        occupied::check_from(plan, &digest, &base)?;
    }
    let (published, _) = written.publish(dir, base.number)?;
    let plans = Plan::open(dir)?;
    let same = plans.files()[base.number].digest() == digest;
    Ok((published == Published::Created || same).then_some(plans))
}
