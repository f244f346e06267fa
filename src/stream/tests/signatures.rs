//! The signature of a head: good for exactly the bytes that were signed, and kept by nobody who has no key.

use super::*;
use crate::signing::{PublicKey, SecretKey};
use crate::stream::signature::{Verdict, check, is_signed, judge, sign};

fn key(n: u8) -> SecretKey {
    let folder = tempfile::tempdir().unwrap();
    SecretKey::make(&folder.path().join("key"), [n; 32]).unwrap()
}

fn signed(key: &SecretKey) -> Vec<u8> {
    let (head, ..) = stream_of(3);
    sign(&head.to_json().unwrap(), key).unwrap()
}

fn refusal(document: &[u8], trusted: &[PublicKey]) -> Error {
    let error = check(document, trusted, "s3://b/p").expect_err("it must be refused");
    assert!(error.hint_text().is_some());
    error
}

#[test]
fn i2_a_signed_head_is_read_as_before_and_believed_by_who_trusts_its_key() {
    let (mine, other) = (key(1), key(2));
    let (head, ..) = stream_of(3);
    let document = signed(&mine);
    let read = Head::parse(&document).unwrap();
    assert_eq!(read.signature.as_ref().map(|signature| signature.key), Some(mine.public().id()));
    assert_eq!(Head { signature: None, ..read.clone() }, head);
    // The same bytes again: a swap whose answer was lost is known by them.
    assert_eq!(read.to_json().unwrap(), document);
    assert_eq!(sign(&document, &mine).unwrap(), document);
    for trusted in [vec![mine.public()], vec![other.public(), mine.public()]] {
        assert_eq!(check(&document, &trusted, "").unwrap(), mine.public().id());
    }
    let stranger = refusal(&document, &[other.public()]);
    assert_eq!(stranger.kind(), Kind::History);
    let text = stranger.to_string();
    assert!(
        text.contains(&mine.public().id().to_string()) && text.contains(&other.public().id().to_string()),
        "{text}"
    );
    let unsigned = refusal(&head.to_json().unwrap(), &[mine.public()]);
    assert!(unsigned.to_string().starts_with("read s3://b/p/index.json: it is not signed"), "{unsigned}");
    // Signed anew, the other's is gone.
    let again = sign(&document, &other).unwrap();
    assert_eq!(judge(&again, &[other.public()]), Verdict::Good(other.public().id()));
    assert_eq!(again.len(), document.len());
}

/// I2.
#[test]
fn a_head_that_was_changed_behind_its_signature_is_refused() {
    let mine = key(1);
    let document = signed(&mine);
    let trusted = [mine.public()];
    // As somebody would who knows how: with a seal that fits, and the signature at its place.
    let mut head = Head::parse(&document).unwrap();
    head.append(segment(&head, 1), at(9)).unwrap();
    let forged = head.to_json().unwrap();
    assert!(is_signed(&forged) && Head::parse(&forged).is_ok());
    assert_eq!(judge(&forged, &trusted), Verdict::Unfit(mine.public().id()));
    assert!(refusal(&forged, &trusted).to_string().contains("is not one of these bytes"));
    // Any byte, a seal that fits or not.
    for at in (0..document.len()).step_by(7) {
        let mut flipped = document.clone();
        flipped[at] ^= 1;
        refusal(&flipped, &trusted);
        let text = document::unsealed(&document).unwrap().len();
        if at < text {
            refusal(&document::sealed(flipped[..text].to_vec()), &trusted);
        }
    }
    for cut in [0, 1, 100, document.len() - 1] {
        refusal(&document[..cut], &trusted);
    }
    // Members behind the signature, or another signature behind it.
    let text = document::unsealed(&document).unwrap();
    for more in ["\"as_of\":\"2030-01-01T00:00:00Z\",\n", "\"signature\":null,\n"] {
        let longer = document::sealed([text, more.as_bytes()].concat());
        refusal(&longer, &trusted);
    }
}

/// What a program of format 1.3 does: it keeps the member as one of a later version, and writes it back.
#[test]
fn a_signature_that_an_older_program_has_carried_on_fits_no_more() {
    let mine = key(1);
    let older = edited(&signed(&mine), |head| head["as_of"] = json!(at(99)));
    assert!(matches!(judge(&older, &[mine.public()]), Verdict::Unfit(_) | Verdict::Unsigned));
    let error = refusal(&older, &[mine.public()]);
    assert_eq!(error.kind(), Kind::History);
}

#[test]
fn a_head_of_a_later_format_is_too_new_whatever_its_signature_is_like() {
    let mine = key(1);
    let later = edited(&signed(&mine), |head| {
        head["format"] = json!({"major": 2, "minor": 0});
        head["signature"] = json!(["by somebody"]);
        head["writer"] = json!("tablecast 9.0.0");
    });
    let error = refusal(&later, &[mine.public()]);
    assert_eq!(error.kind(), Kind::TooNew, "{error}");
}
