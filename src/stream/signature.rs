//! The signature of the head: proof that whoever holds the key wrote it, and with it everything that it leads to. Its
//! entries are chained, older ones stand in pages whose size, digest and chain it holds, and objects are named with
//! theirs.
//!
//! The member `signature` stands right before the seal, always written alike, and is Ed25519 over `CONTEXT` and every byte of
//! the document before it. So nothing of a document is outside of what was signed, and nothing need be parsed to check it.
//! Programs that know no signatures keep the member as it is: they change what it was made of, and it no longer fits.

use serde::{Deserialize, Serialize};

use super::document::{self, Format};
use super::head::WHAT;
use crate::error::{Error, Kind, Result};
use crate::hex::{from_hex, hex};
use crate::signing::{KeyId, PublicKey, SecretKey};

/// What is signed begins with this, so that a signature of something else is none of a head.
const CONTEXT: &[u8] = b"tablecast index.json\n";
/// The member as it is written.
const BEGIN: &str = "\"signature\":{\"ed25519\":\"";
const MIDDLE: &str = "\",\"key\":\"";
const END: &str = "\"},\n";
const LENGTH: usize = BEGIN.len() + 128 + MIDDLE.len() + 16 + END.len();

/// The format that brought signatures: who writes an older one makes those that are there unfit.
pub const KNOWN_SINCE: Format = Format { major: 1, minor: 4 };

/// The member of a head. Whether it fits is [`check`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Ed25519, hex.
    ed25519: String,
    /// Which key has made it.
    pub key: KeyId,
}

impl Signature {
    fn text(&self) -> String {
        format!("{BEGIN}{}{MIDDLE}{}{END}", self.ed25519, self.key)
    }

    /// The document with this signature at its end, whether it fits or not.
    pub(super) fn put_on(&self, document: &[u8]) -> Vec<u8> {
        let mut text = document::unsealed(document).unwrap_or(document).to_vec();
        text.extend(self.text().into_bytes());
        document::sealed(text)
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        match from_hex::<64>(&self.ed25519) {
            Some(_) => Ok(()),
            None => Err("its signature is not 128 lower-case hex digits".into()),
        }
    }
}

/// What a signature says, to whoever trusts these keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is none.
    Unsigned,
    /// By a key that is not among them.
    Stranger(KeyId),
    /// It names one of them, and is not of these bytes.
    Unfit(KeyId),
    Good(KeyId),
}

/// The bytes that were signed, and the signature.
fn split(document: &[u8]) -> Option<(&[u8], Signature)> {
    let text = document::unsealed(document)?;
    let (signed, member) = text.split_at(text.len().checked_sub(LENGTH)?);
    let member = std::str::from_utf8(member).ok()?;
    let (ed25519, key) = member.strip_prefix(BEGIN)?.strip_suffix(END)?.split_once(MIDDLE)?;
    let signature = Signature { ed25519: ed25519.to_owned(), key: KeyId::of_text(key)? };
    Some((signed, signature))
}

fn message(signed: &[u8]) -> Vec<u8> {
    [CONTEXT, signed].concat()
}

/// The document, sealed, with this key's signature in the place of another one.
pub fn sign(document: &[u8], key: &SecretKey) -> Result<Vec<u8>> {
    let text = match split(document) {
        Some((signed, _)) => signed,
        None => document::unsealed(document)
            .ok_or_else(|| Error::new(Kind::Failed, format!("sign {WHAT}: it has no seal")))?,
    };
    let ed25519 = hex(&key.sign(&message(text))?);
    let signature = Signature { ed25519, key: key.public().id() };
    let mut signed = text.to_vec();
    signed.extend(signature.text().into_bytes());
    Ok(document::sealed(signed))
}

/// Whether there is a signature, fit or not.
pub fn is_signed(document: &[u8]) -> bool {
    split(document).is_some()
}

/// Looks at nothing but the signature, and believes nothing else.
pub fn judge(document: &[u8], trusted: &[PublicKey]) -> Verdict {
    let Some((signed, signature)) = split(document) else { return Verdict::Unsigned };
    let id = signature.key;
    let Some(bytes) = from_hex::<64>(&signature.ed25519) else { return Verdict::Unfit(id) };
    // Ids are short enough for somebody to make two keys of one: all that are called so are asked.
    let mut called = trusted.iter().filter(|key| key.id() == id).peekable();
    if called.peek().is_none() {
        return Verdict::Stranger(id);
    }
    let message = message(signed);
    match called.any(|key| key.has_signed(&message, &bytes)) {
        true => Verdict::Good(id),
        false => Verdict::Unfit(id),
    }
}

/// Refuses a head that none of these keys has signed as it is.
pub fn check(document: &[u8], trusted: &[PublicKey], url: &str) -> Result<KeyId> {
    let verdict = judge(document, trusted);
    let ids: Vec<String> = trusted.iter().map(|key| key.id().to_string()).collect();
    let trusts = format!("this config trusts {} only", ids.join(" and "));
    let why = match verdict {
        Verdict::Good(key) => return Ok(key),
        Verdict::Unsigned => format!("it is not signed, and {trusts}"),
        Verdict::Stranger(key) => format!("it is signed by key {key}, and {trusts}"),
        Verdict::Unfit(key) => format!("the signature by key {key} in it is not one of these bytes"),
    };
    // In a later format a signature may look otherwise.
    if let Err(error) = document::check_format_of(WHAT, document)
        && error.kind() == Kind::TooNew
    {
        return Err(error);
    }
    let hint = match verdict {
        Verdict::Unfit(_) => {
            "somebody else has changed it, or a tablecast that knows no signatures (format before 1.4) has written it: find \
             out which, before anything: docs/runbooks/sign-the-stream.md"
        }
        _ => {
            "if the source's key has changed on purpose, put the new public key into [trust] first; if the source has just \
             begun to sign, `tablecast stream sign` there; else somebody else has written to the bucket: \
             docs/runbooks/sign-the-stream.md"
        }
    };
    Err(Error::new(Kind::History, format!("read {url}/{WHAT}: {why}")).hint(hint))
}
