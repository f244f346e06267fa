//! The algebra against a set of single transactions, and every text that MySQL prints or accepts.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::error::Kind;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

/// Few name spaces and small numbers, so that sets meet.
fn any_gtid() -> impl Strategy<Value = Gtid> {
    let tags = prop_oneof![Just(None), Just(Tag::new("nightly")), Just(Tag::new("_b2"))];
    (0..2u128, tags, prop_oneof![1..40u64, MAX_NUMBER - 3..=MAX_NUMBER])
        .prop_map(|(uuid, tag, number)| Gtid { tsid: Tsid { uuid: Uuid::from_u128(uuid), tag }, number })
}

fn any_model() -> impl Strategy<Value = BTreeSet<Gtid>> {
    prop::collection::btree_set(any_gtid(), 0..60)
}

fn of(model: &BTreeSet<Gtid>) -> GtidSet {
    model.iter().collect()
}

proptest! {
    #[test]
    fn sets_behave_like_sets_of_single_transactions(a in any_model(), b in any_model(), probe in any_gtid()) {
        let (sa, sb) = (of(&a), of(&b));
        prop_assert_eq!(sa.union(&sb), of(&a.union(&b).cloned().collect()));
        prop_assert_eq!(sa.difference(&sb), of(&a.difference(&b).cloned().collect()));
        prop_assert_eq!(sa.intersection(&sb), of(&a.intersection(&b).cloned().collect()));
        prop_assert_eq!(sa.is_subset(&sb), a.is_subset(&b));
        prop_assert_eq!(sa.count(), a.len() as u64);
        prop_assert_eq!(sa.is_empty(), a.is_empty());
        prop_assert_eq!(sa.contains(&probe), a.contains(&probe));
        let last = a.iter().filter(|gtid| gtid.tsid == probe.tsid).map(|gtid| gtid.number).max();
        prop_assert_eq!(sa.last_of(&probe.tsid), last);
    }

    #[test]
    fn the_order_in_which_transactions_come_does_not_matter(
        gtids in prop::collection::vec(any_gtid(), 0..60),
        seed: u64,
    ) {
        let mut shuffled = gtids.clone();
        shuffled.sort_by_key(|gtid| (gtid.number.wrapping_mul(seed | 1), gtid.clone()));
        let in_order: GtidSet = gtids.iter().collect();
        prop_assert_eq!(&in_order, &shuffled.iter().collect());
        for (_, intervals) in in_order.intervals() {
            prop_assert!(!intervals.is_empty());
            prop_assert!(intervals.iter().all(|(first, last)| first <= last));
            prop_assert!(intervals.windows(2).all(|two| two[0].1 + 1 < two[1].0), "disjoint, not touching");
        }
    }

    #[test]
    fn ranges_are_what_their_numbers_are(ranges in prop::collection::vec((1..60u64, 0..20u64), 0..12)) {
        let tsid = Tsid::untagged(Uuid::nil());
        let (mut by_range, mut by_number) = (GtidSet::new(), GtidSet::new());
        for (first, len) in ranges {
            by_range.insert_range(&tsid, first, first + len);
            (first..=first + len).for_each(|number| by_number.insert(&Gtid { tsid: tsid.clone(), number }));
        }
        prop_assert_eq!(by_range, by_number);
    }

    #[test]
    fn text_round_trips(model in any_model()) {
        let set = of(&model);
        prop_assert_eq!(&set, &set.to_string().parse().unwrap());
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(&set, &serde_json::from_str(&json).unwrap());
        for gtid in &model {
            prop_assert_eq!(gtid, &gtid.to_string().parse().unwrap());
        }
    }

    #[test]
    fn bytes_round_trip(model in any_model()) {
        let set = of(&model);
        prop_assert_eq!(&set, &GtidSet::decode(&set.encode()).unwrap());
    }

    #[test]
    fn any_bytes_and_any_text_are_a_set_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "[0-9a-f:,\\- \n]{0,80}",
        uuid_text in "3e11fa47-71ca-11e1-9e33-c80aa9429562[0-9a-z:,\\- \n]{0,40}",
        cut: prop::sample::Index,
        model in any_model(),
    ) {
        let _ = GtidSet::decode(&bytes);
        let _ = text.parse::<GtidSet>();
        let _ = uuid_text.parse::<GtidSet>();
        let _ = uuid_text.parse::<Gtid>();
        let whole = of(&model).encode();
        let cut = cut.index(whole.len());
        prop_assert!(GtidSet::decode(&whole[..cut]).is_err());
    }
}

#[test]
fn a_set_is_printed_as_mysql_prints_it_on_one_line() {
    let mut all = GtidSet::new();
    for text in ["b:7", "b:9", "b:nightly:1", "b:nightly:2", "a:zz:4", "a:aa:3"] {
        let text = text.replacen('a', A, usize::from(text.starts_with('a')));
        all.insert(&text.replacen('b', B, usize::from(text.starts_with('b'))).parse().unwrap());
    }
    assert_eq!(all.to_string(), format!("{A}:aa:3:zz:4,{B}:7:9:nightly:1-2"));
}

#[test]
fn every_form_that_mysql_prints_or_accepts_is_read() {
    let expected = set(&format!("{A}:1-3:7:nightly:1-2,{B}:5"));
    for text in [
        format!("{A}:1-3:7:nightly:1-2,\n{B}:5"),
        format!(" {A} : 1 - 3 : 7 : Nightly : 1 - 2 , , {B}:5 ,"),
        format!("{B}:5,{A}:nightly:1-2,{A}:7:1-3"),
        format!("{A}:nightly:2:1,{A}:7-7:2-3:1,{B}:5").to_uppercase(),
        format!("{A}:1-2:2-3:7:9-8:nightly:1:2,{B}:5"),
    ] {
        assert_eq!(set(&text), expected, "{text}");
    }
    assert!(set("").is_empty());
    assert!(set(" , ,\n").is_empty());
}

#[test]
fn text_that_is_no_set_is_refused_with_its_reason() {
    for (text, why) in [
        ("x:1".to_owned(), "\"x\" is not a UUID".to_owned()),
        ("3e11fa4771ca11e19e33c80aa9429562:1".to_owned(), "is not a UUID".to_owned()),
        (A.to_owned(), format!("no interval follows {A}")),
        (format!("{A}:nightly"), format!("no interval follows {A}:nightly")),
        (format!("{A}:nightly:weekly:1"), "no interval follows the tag".to_owned()),
        (format!("{A}:0"), "\"0\" is not a transaction number".to_owned()),
        (format!("{A}:1-x"), "\"x\" is not a transaction number".to_owned()),
        (format!("{A}:9223372036854775807"), "is not a transaction number".to_owned()),
        (format!("{A}:+1"), "\"+1\" is neither a tag nor an interval".to_owned()),
        (format!("{A}:t-t:1"), "\"t-t\" is neither a tag nor an interval".to_owned()),
    ] {
        let error = text.parse::<GtidSet>().unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains(&why), "{text}: {error}");
    }
}

#[test]
fn a_set_without_tags_is_encoded_as_servers_before_8_3_read_it() {
    let bytes = set(&format!("{A}:1-3:7")).encode();
    let mut expected = 1u64.to_le_bytes().to_vec();
    expected.extend(A.parse::<Uuid>().unwrap().as_bytes());
    for number in [2u64, 1, 4, 7, 8] {
        expected.extend(number.to_le_bytes());
    }
    assert_eq!(bytes, expected);
}

#[test]
fn a_set_with_hundreds_of_thousands_of_gaps_is_compared_in_one_walk() {
    let tsid = Tsid::untagged(Uuid::nil());
    let (mut odd, mut even) = (GtidSet::new(), GtidSet::new());
    for number in 1..=200_000u64 {
        odd.insert_range(&tsid, 2 * number - 1, 2 * number - 1);
        even.insert_range(&tsid, 2 * number, 2 * number);
    }
    assert_eq!(odd.interval_count(&tsid), 200_000);
    assert!(odd.intersection(&even).is_empty());
    assert_eq!(odd.difference(&even), odd);
    assert_eq!(odd.union(&even).interval_count(&tsid), 1);
}

#[test]
fn a_set_is_read_as_mysqldump_prints_it() {
    let plain = set(&format!("{A}:1-9,{B}:1-3"));
    assert_eq!(set(&format!("+{A}:1-9,\n{B}:1-3")), plain);
    assert!(format!("+{A}:1-9,+{B}:1-3").parse::<GtidSet>().is_err());
}
