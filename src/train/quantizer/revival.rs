//! Owns the use of the codes: which were used and when, over how many tokens, and when dead ones
//! are given a new place.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::metrics::CodeCounts;
use crate::train::settings::codebook::CodebookSettings;

/// Visits that a code of average frequency should have had before it is called dead.
const VISITS: usize = 8;

/// The use of the codes so far.
#[derive(Debug, Clone)]
pub(crate) struct CodeUse {
    /// Steps since each code was last used.
    idle: Vec<u32>,
    /// Uses since the last report.
    window: CodeCounts,
    /// Steps in it.
    window_steps: u32,
    /// Steps without use that make a code dead.
    dead_after: u32,
    rule: RevivalRule,
    /// None until the codes have places.
    schedule: Option<RevivalSchedule>,
}

impl CodeUse {
    /// Of the codes of `window`, which is empty, where a step uses `step_rows` codes and the run
    /// has `steps` steps.
    pub(crate) fn new(
        window: CodeCounts,
        step_rows: usize,
        steps: usize,
        settings: &CodebookSettings,
    ) -> CodeUse {
        let codes = window.counts.len();
        let visits = (VISITS * codes).div_ceil(step_rows.max(1));
        CodeUse {
            idle: vec![0; codes],
            window,
            window_steps: 0,
            dead_after: visits.max(settings.revive_every) as u32,
            rule: RevivalRule {
                every: settings.revive_every as u64,
                until: (settings.revive_until * steps as f64) as u64,
                rearm: settings.rearm_usage,
            },
            schedule: None,
        }
    }

    /// The codes have places from step `now` on.
    pub(crate) fn start(&mut self, now: u64) {
        self.schedule = Some(RevivalSchedule::new(self.rule, now));
    }

    /// Whether they have.
    pub(crate) fn started(&self) -> bool {
        self.schedule.is_some()
    }

    /// Takes in the codes of a step.
    pub(crate) fn note(&mut self, indices: &[u32]) {
        self.idle.iter_mut().for_each(|idle| *idle = idle.saturating_add(1));
        indices.iter().for_each(|k| self.idle[*k as usize] = 0);
        self.window.add(indices);
        self.window_steps += 1;
    }

    /// Share of the codes used lately: in as many steps as make a code dead.
    pub(crate) fn recent_usage(&self) -> f64 {
        let alive = self.idle.iter().filter(|idle| **idle < self.dead_after).count();
        alive as f64 / self.idle.len().max(1) as f64
    }

    /// The codes to be revived after step `now`; none where no revival is due.
    pub(crate) fn due(&mut self, now: u64) -> Vec<usize> {
        let recent = self.recent_usage();
        let Some(schedule) = &mut self.schedule else { return Vec::new() };
        if !schedule.due(self.rule, now, recent) {
            return Vec::new();
        }
        (0..self.idle.len()).filter(|k| self.idle[*k] >= self.dead_after).collect()
    }

    /// These codes have new places.
    pub(crate) fn revived(&mut self, codes: &[usize]) {
        codes.iter().for_each(|k| self.idle[*k] = 0);
    }

    /// Uses since the last report, and a new beginning; None as long as they are of too few steps
    /// to speak for the data set.
    pub(crate) fn take_window(&mut self) -> Option<CodeCounts> {
        if self.window_steps < self.dead_after {
            return None;
        }
        self.window_steps = 0;
        let fresh = CodeCounts { counts: vec![0; self.idle.len()], levels: self.window.levels };
        Some(std::mem::replace(&mut self.window, fresh))
    }

    /// When codes are revived next, for a checkpoint.
    pub(crate) fn schedule(&self) -> Option<RevivalSchedule> {
        self.schedule
    }

    /// The rest of the state, for a checkpoint.
    pub(crate) fn state(&self) -> BTreeMap<String, Vec<i64>> {
        BTreeMap::from([
            ("codebook.idle".into(), self.idle.iter().map(|i| i64::from(*i)).collect()),
            ("codebook.window".into(), self.window.counts.iter().map(|n| *n as i64).collect()),
            ("codebook.window_steps".into(), vec![i64::from(self.window_steps)]),
        ])
    }

    /// Takes both back.
    ///
    /// # Errors
    /// Where the state is of another number of codes.
    pub(crate) fn restore(
        &mut self,
        schedule: Option<RevivalSchedule>,
        state: &BTreeMap<String, Vec<i64>>,
    ) -> Result<()> {
        let codes = self.idle.len();
        let part = |name: &str, len: usize| {
            state
                .get(name)
                .filter(|v| v.len() == len)
                .ok_or_else(|| Error::invalid("the checkpoint's codebook is of another size"))
        };
        self.idle = part("codebook.idle", codes)?.iter().map(|i| *i as u32).collect();
        self.window.counts = part("codebook.window", codes)?.iter().map(|n| *n as u64).collect();
        self.window_steps = part("codebook.window_steps", 1)?[0] as u32;
        self.schedule = schedule;
        Ok(())
    }
}

/// When dead codes are revived: every `every` steps, the interval doubling as long as hardly any
/// code is dead and starting again where some are; not in the last part of the run, unless usage
/// falls under `rearm`: then until hardly any is dead again.
///
/// Doubling without this condition was tried: on MNIST the latents outgrow the codes in the first
/// hundred steps, and 60 % of them die between two revivals.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevivalSchedule {
    /// Steps between this revival and the last.
    pub interval: u64,
    /// The step of the next.
    pub next: u64,
    /// Usage fell so low that dead codes are revived whatever the step, until hardly any is dead.
    pub armed: bool,
}

/// The settings that [`RevivalSchedule`] follows.
#[derive(Debug, Clone, Copy)]
pub struct RevivalRule {
    /// First interval; 0 = never.
    pub every: u64,
    /// The step from which there is no scheduled revival.
    pub until: u64,
    /// Recent usage under this revives even behind `until`.
    pub rearm: f64,
}

/// Recent usage from which the interval doubles.
const ALIVE: f64 = 0.99;

impl RevivalSchedule {
    /// For a codebook that starts at step `now`.
    pub fn new(rule: RevivalRule, now: u64) -> RevivalSchedule {
        RevivalSchedule { interval: rule.every, next: now + rule.every, armed: false }
    }

    /// Whether to revive after step `now`, given the share of codes used lately.
    pub fn due(&mut self, rule: RevivalRule, now: u64, recent_usage: f64) -> bool {
        if rule.every == 0 {
            return false;
        }
        if recent_usage < rule.rearm {
            self.armed = true;
            self.next = self.next.min(now + rule.every);
        }
        if now < self.next || (now >= rule.until && !self.armed) {
            return false;
        }
        let alive = recent_usage >= ALIVE;
        self.armed &= !alive;
        self.interval = if alive { 2 * self.interval } else { rule.every };
        self.next = now + self.interval;
        true
    }
}

#[cfg(test)]
mod tests;
