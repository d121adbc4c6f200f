//! What of the directory is not as it was meant, as whoever asks is told.

/// One file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// As the host was told it, on one line.
    pub path: String,
    pub kind: FindingKind,
    /// Reads on from the path: `is empty`.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// It is being read, checked and compiled, and nothing runs of it until then.
    Loading,
    /// It is newer than what is being tried just now, and has its turn afterwards.
    Waiting,
    /// It is taken all the same.
    Warning,
    /// It is not taken. What ran before goes on.
    Refused,
    /// The directory cannot be looked at: nothing new is taken.
    Unseen,
}

impl Finding {
    pub(super) fn refused(path: String, message: String, help: &str) -> Finding {
        Finding { path, kind: FindingKind::Refused, message, help: help.to_string() }
    }
}

impl FindingKind {
    /// Whether what the directory asks for is not what runs.
    pub fn is_fault(self) -> bool {
        matches!(self, FindingKind::Loading | FindingKind::Refused | FindingKind::Unseen)
    }
}
