//! Checksums: with wrong ones nothing comes past the door, so they are made right for bytes that are otherwise at will.

use sha2::{Digest, Sha256};

/// The document with a seal that fits, if it has one at its end.
pub fn sealed(document: &[u8]) -> Vec<u8> {
    const SEAL: &[u8] = b"\"sha256\":\"";
    let Some(at) = document.windows(SEAL.len()).rposition(|part| part == SEAL) else {
        return document.to_vec();
    };
    let text = &document[..at];
    let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    [text, SEAL, digest.as_bytes(), b"\"}\n"].concat()
}
