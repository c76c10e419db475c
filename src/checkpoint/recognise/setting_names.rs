//! Owns how a front end calls what its user may say of a checkpoint, so that each message gives
//! advice which can be followed.

use crate::util::settings::{FAMILY, INIT_FAMILY, INIT_WEIGHTS, MODEL_CONFIG, Setting, WEIGHTS};

/// Names of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingNames {
    /// Whose mathematics it is.
    pub(crate) family: Setting,
    /// Which of several sets of weights.
    pub(crate) weights: Setting,
    /// Its published configuration; None where there is no such setting.
    pub(crate) config: Option<Setting>,
}

impl SettingNames {
    /// Those of a training that begins with a checkpoint.
    pub(crate) const OF_INIT: SettingNames =
        SettingNames { family: INIT_FAMILY, weights: INIT_WEIGHTS, config: None };

    /// The end of an advice to put a configuration beside the checkpoint.
    pub(crate) fn or_config(&self) -> String {
        self.config.map_or_else(String::new, |setting| format!(" or pass it with {setting}"))
    }
}

impl Default for SettingNames {
    /// Those of whatever reads a model.
    fn default() -> SettingNames {
        SettingNames { family: FAMILY, weights: WEIGHTS, config: Some(MODEL_CONFIG) }
    }
}
