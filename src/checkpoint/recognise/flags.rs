//! Owns how a command calls what its user may say of a checkpoint, so that each message gives advice
//! which the command takes. Must not know: what is said.

/// Names of flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Whose mathematics it is.
    pub family: &'static str,
    /// Which of several sets of weights.
    pub weights: &'static str,
    /// Its published configuration; None where the command has no such flag.
    pub config: Option<&'static str>,
}

impl Flags {
    /// Those of a training that begins with a checkpoint.
    pub const OF_INIT: Flags =
        Flags { family: "--init-family", weights: "--init-weights", config: None };

    /// The end of an advice to put a configuration beside the checkpoint.
    pub fn or_config(&self) -> String {
        self.config.map_or_else(String::new, |flag| format!(" or pass it with {flag}"))
    }
}

impl Default for Flags {
    /// Those of every command that reads a model.
    fn default() -> Flags {
        Flags { family: "--family", weights: "--weights", config: Some("--model-config") }
    }
}
