//! Owns which partitions a worker takes: I of N, and the ranks that schedulers hand out.

use crate::error::{Error, Result};
use crate::util::settings::{RANK_FROM, RANKS};
use std::str::FromStr;

/// Every `of`-th partition, from the `index`-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    index: usize,
    of: usize,
}

impl Share {
    /// Everything.
    pub const ALL: Share = Share { index: 0, of: 1 };

    /// Every `of`-th partition, from the `index`-th (0 to N-1; N of N is 0 of N).
    ///
    /// # Errors
    /// An index that is none of so many.
    pub fn new(index: usize, of: usize) -> Result<Share> {
        match of == 0 || index > of {
            false => Ok(Share { index: index % of, of }),
            true => {
                let text = format!("{index}/{of}: I goes from 0 to N-1, and N is at least 1");
                Err(Error::invalid(text))
            }
        }
    }

    /// Whether this worker takes partition `partition`.
    pub fn has(self, partition: usize) -> bool {
        partition % self.of == self.index
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Share> {
        let Some((index, of)) = text.split_once('/') else {
            return Err(Error::invalid("write it as I/N, for example 0/3"));
        };
        let number = |part: &str| {
            let number = part.trim().parse();
            number.map_err(|_| Error::invalid(format!("{part:?} is no number")))
        };
        Share::new(number(index)?, number(of)?)
    }
}

/// Who hands out ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum RankFrom {
    /// SLURM_ARRAY_TASK_ID of a job array, with its COUNT, MIN and STEP
    Slurm,
    /// JOB_COMPLETION_INDEX of an indexed Kubernetes job; pass --ranks N
    Kubernetes,
    /// RANK and WORLD_SIZE, as torchrun and MPI launchers set them
    Torch,
}

impl RankFrom {
    /// The share of this process, from its environment.
    ///
    /// # Errors
    /// A variable that is missing or no number, or a rank beyond the number of workers.
    pub fn share(self, ranks: Option<usize>) -> Result<Share> {
        self.share_in(ranks, |name| std::env::var(name).ok())
    }

    fn share_in(self, ranks: Option<usize>, env: impl Fn(&str) -> Option<String>) -> Result<Share> {
        let (rank, of) = match self {
            RankFrom::Slurm => {
                let id = required("SLURM_ARRAY_TASK_ID", &env)?;
                let first = optional("SLURM_ARRAY_TASK_MIN", &env)?.unwrap_or(0);
                let step = optional("SLURM_ARRAY_TASK_STEP", &env)?.unwrap_or(1);
                if step == 0 || id < first {
                    return refused(format!(
                        "no task {id} of an array that begins at {first} in steps of {step} \
                         (SLURM_ARRAY_TASK_ID, _MIN, _STEP)"
                    ));
                }
                ((id - first) / step, workers("SLURM_ARRAY_TASK_COUNT", ranks, &env)?)
            }
            RankFrom::Kubernetes => {
                let rank = required("JOB_COMPLETION_INDEX", &env)?;
                (rank, workers("JOB_COMPLETIONS", ranks, &env)?)
            }
            RankFrom::Torch => (required("RANK", &env)?, workers("WORLD_SIZE", ranks, &env)?),
        };
        if rank >= of {
            return refused(format!("rank {rank} is beyond the {of} workers (ranks count from 0)"));
        }
        Share::new(rank, of)
    }
}

fn refused<T>(reason: String) -> Result<T> {
    Err(Error::setting(RANK_FROM, format!(": {reason}")))
}

/// A number of the environment; None where it isn't set.
fn optional(name: &str, env: impl Fn(&str) -> Option<String>) -> Result<Option<usize>> {
    let Some(text) = env(name) else { return Ok(None) };
    let number = text.trim().parse::<usize>();
    number.map(Some).or_else(|_| refused(format!("{name} is {text:?}, not a number")))
}

fn required(name: &str, env: impl Fn(&str) -> Option<String>) -> Result<usize> {
    let unset = || refused(format!("{name} is not set in the environment"));
    optional(name, env)?.map_or_else(unset, Ok)
}

/// How many workers there are: as is said, unless the variable says otherwise.
fn workers(name: &str, said: Option<usize>, env: impl Fn(&str) -> Option<String>) -> Result<usize> {
    match (said, optional(name, env)?) {
        (Some(0), _) => Err(Error::setting(RANKS, "is at least 1, not 0")),
        (Some(said), Some(workers)) if workers != said => Err(Error::setting(
            RANKS,
            format!("is {said}, where {name} is {workers}: leave it out, or correct one"),
        )),
        (Some(said), _) => Ok(said),
        (None, None) => refused(format!("{name} is not set; pass {RANKS} N")),
        (None, Some(0)) => {
            refused(format!("{name} is 0, where the number of workers is at least 1"))
        }
        (None, Some(workers)) => Ok(workers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| v.to_string())
    }

    #[test]
    fn shares_split_everything_and_overlap_nowhere() {
        for text in [["0/3", "1/3", "2/3"], ["1/3", "2/3", "3/3"]] {
            let shares = text.map(|t| t.parse::<Share>().unwrap());
            for partition in 0..100 {
                assert_eq!(shares.iter().filter(|s| s.has(partition)).count(), 1);
            }
        }
        for bad in ["3", "4/3", "0/0", "a/3", "-1/3", "1/"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranks_come_from_the_schedulers() {
        let slurm = env(&[
            ("SLURM_ARRAY_TASK_ID", "5"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ]);
        assert_eq!(RankFrom::Slurm.share_in(None, slurm).unwrap(), Share { index: 2, of: 4 });
        for (bad, words) in [
            (env(&[("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_TASK_STEP", "0")]), "in steps of 0"),
            (env(&[("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_TASK_MIN", "2")]), "begins at 2"),
        ] {
            let message = RankFrom::Slurm.share_in(Some(4), bad).unwrap_err().to_string();
            assert!(
                message.contains("no task 1 of an array") && message.contains(words),
                "{message}"
            );
        }
        let torch = || env(&[("RANK", "1"), ("WORLD_SIZE", "2")]);
        let message = RankFrom::Torch.share_in(Some(3), torch()).unwrap_err().to_string();
        assert!(message.starts_with("ranks is 3, where WORLD_SIZE is 2"), "{message}");
        assert_eq!(RankFrom::Torch.share_in(Some(2), torch()).unwrap(), Share { index: 1, of: 2 });
        let torch = torch();
        assert_eq!(RankFrom::Torch.share_in(None, torch).unwrap(), Share { index: 1, of: 2 });
        let kubernetes = || env(&[("JOB_COMPLETION_INDEX", "0")]);
        let share = RankFrom::Kubernetes.share_in(Some(8), kubernetes()).unwrap();
        assert_eq!(share, Share { index: 0, of: 8 });
        let message = RankFrom::Kubernetes.share_in(None, kubernetes()).unwrap_err().to_string();
        assert!(message.contains("ranks N"), "{message}");
        let beyond = env(&[("RANK", "2"), ("WORLD_SIZE", "2")]);
        assert!(RankFrom::Torch.share_in(None, beyond).is_err());
        let message = RankFrom::Torch.share_in(None, env(&[])).unwrap_err().to_string();
        assert!(message.contains("RANK is not set"), "{message}");
        let none = || env(&[("RANK", "0"), ("WORLD_SIZE", "0")]);
        let message = RankFrom::Torch.share_in(None, none()).unwrap_err().to_string();
        assert!(message.contains("WORLD_SIZE is 0, where the number of workers"), "{message}");
        let message = RankFrom::Torch.share_in(Some(0), none()).unwrap_err().to_string();
        assert_eq!(message, "ranks is at least 1, not 0");
    }
}
