//! Why bytes are not a message.

/// Why bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are no bytes at all.
    #[error("the file is empty")]
    Empty,
    /// More bytes than protobuf allows.
    #[error("the file has {bytes} bytes, more than the {} that protobuf allows", crate::MAX_BYTES)]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// The text that git keeps in place of a large file.
    #[error("the file is a git-lfs pointer, fetch the model itself with `git lfs pull`")]
    LfsPointer,
    /// A field ends after the end of the file or of the message around it.
    #[error("the file is truncated or malformed: a field does not fit into its {bytes} bytes")]
    Truncated {
        /// How many there are.
        bytes: usize,
    },
    /// Messages inside messages, deeper than protobuf's usual limit.
    #[error("messages are nested more than 100 deep")]
    TooDeep,
    /// Not this message, or not protobuf at all.
    #[error("the file is not valid ONNX: {reason}")]
    Malformed {
        /// The way to the field, and what is wrong with it.
        reason: String,
    },
    /// A valid message, but no model that could run.
    #[error("the model has no graph")]
    NoGraph,
}

impl DecodeError {
    /// prost gives its reason only as text; tests hold the phrases that are looked for here.
    pub(crate) fn from_prost(error: &prost::DecodeError, bytes: usize) -> Self {
        let text = error.to_string();
        let text = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
        if text.ends_with("recursion limit reached") {
            return Self::TooDeep;
        }
        if text.ends_with("buffer underflow") || text.ends_with("delimited length exceeded") {
            return Self::Truncated { bytes };
        }
        // `NodeProto.input: GraphProto.node: …: reason`, innermost first; the fields are enough.
        let parts: Vec<_> = text.split(": ").collect();
        let depth = parts.iter().take_while(|p| !p.contains(' ')).count();
        let path = parts[..depth].iter().rev().map(|p| p.split_once('.').map_or(*p, |(_, f)| f));
        let reason = path.chain(parts[depth..].iter().copied()).collect::<Vec<_>>().join(": ");
        Self::Malformed { reason }
    }
}
