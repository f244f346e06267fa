//! The index signed by somebody's decision, not as part of other work: where signing begins, where a key takes the place of one
//! that is no longer trusted, and where signing ends.
//!
//! Everything else that writes the index reads it first and refuses one that this source's keys have not signed: else
//! whoever writes to the bucket would have his work signed by the next upload. Here a person has looked at it.

use serde::Serialize;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::signing::KeyId;
use crate::store::{self, Clients, Fetched, Signing};
use crate::stream::signature::{KNOWN_SINCE, Verdict, judge};
use crate::stream::{Chain, Head, Key, Seq};

/// How often a swap may be lost in a row: uploads that are at work win some.
const CONFLICTS: u32 = 20;

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take the signature away.
    pub remove: bool,
    /// Also an index whose signature is somebody else's, or does not fit.
    pub force: bool,
    pub dry_run: bool,
}

/// What was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Was {
    Unsigned,
    /// By a key that this config trusts.
    Signed(KeyId),
    /// By another one.
    Stranger(KeyId),
    /// It does not fit the index.
    Unfit(KeyId),
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub dry_run: bool,
    pub was: Was,
    /// Who has signed it now; none: nobody.
    pub key: Option<KeyId>,
    /// Where the index ends that was signed.
    pub last_seq: Seq,
    pub chain: Chain,
    pub warnings: Vec<String>,
}

/// Signs the index as it is, or takes its signature away.
pub async fn run(config: &Config, clients: &Clients, options: &Options) -> Result<Report> {
    let Signing { key, trusted } = Signing::of(config)?;
    if key.is_none() && !options.remove {
        return Err(Error::new(
            Kind::Usage,
            format!("sign {}: {} has no [sign]", config.stream, config.path.display()),
        )
        .hint("`tablecast key FILE` makes a key; then write [sign] key_file = \"FILE\""));
    }
    if key.is_some() && options.remove {
        let what = format!(
            "take the signature away: {} has [sign], and the next upload would refuse",
            config.path.display()
        );
        return Err(Error::new(Kind::Usage, what).hint(
            "first remove [trust] in every region, then [sign] and [trust] here, then run this again",
        ));
    }
    let id = key.as_ref().map(|key| key.public().id());
    // Whatever is there is read: this is about what is there.
    let store = store::open_signing(config, clients, Signing { key, trusted: Vec::new() }).await?;
    for attempt in 1.. {
        let (bytes, etag) = match store.get(&Key::head(), None).await {
            Ok(Fetched::Object { bytes, etag }) => (bytes, etag),
            Ok(Fetched::Unchanged) => break,
            Err(error) if error.is_not_found() => return Err(store::head::no_stream(&*store)),
            Err(error) => return Err(error),
        };
        let mut head = Head::parse(&bytes)?;
        store::head::check_name(&config.stream, &head, &store.url())?;
        let was = match judge(&bytes, &trusted) {
            Verdict::Unsigned => Was::Unsigned,
            Verdict::Good(key) => Was::Signed(key),
            Verdict::Stranger(key) => Was::Stranger(key),
            Verdict::Unfit(key) => Was::Unfit(key),
        };
        let report = report(config, &head, was, id, options);
        let consented = consent(config, was, options);
        if options.dry_run || (options.remove && was == Was::Unsigned) {
            let missing = consented.err().map(|error| format!("{error}: the run would need --force"));
            return Ok(Report { warnings: report.warnings.into_iter().chain(missing).collect(), ..report });
        }
        consented?;
        if options.remove {
            head.signature = None;
        }
        match store::head::write(&*store, &mut head, Some(&etag)).await {
            Ok(_) => return Ok(report),
            Err(error) if error.is_conflict() && attempt < CONFLICTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Store, format!("read {}/{}: unchanged since never", store.url(), Key::head())))
}

/// What somebody else has signed, or changed, is not signed unseen. To take such a signature away is no word for what it is on.
fn consent(config: &Config, was: Was, options: &Options) -> Result<()> {
    let why = match was {
        Was::Unsigned | Was::Signed(_) => return Ok(()),
        _ if options.force || options.remove => return Ok(()),
        Was::Stranger(key) => format!("it is signed by key {key}, which this config does not trust"),
        Was::Unfit(key) => format!("somebody has changed it since key {key} signed it"),
    };
    Err(Error::new(Kind::History, format!("sign {}/{}: {why}", config.store, Key::head())).hint(
        "find out who wrote it: what you sign, every region believes. If it is the right one (compare its last entry and \
         chain with a region's `tablecast status`): --force; else put the right version of index.json back",
    ))
}

fn report(config: &Config, head: &Head, was: Was, key: Option<KeyId>, options: &Options) -> Report {
    let mut warnings = Vec::new();
    if !options.remove && head.format < KNOWN_SINCE {
        warnings.push(format!(
            "{} wrote the stream last, in format {}.{}, and does not know signatures: an upload of that version would make \
             this one unfit, and regions that trust keys would stop. Update it before",
            head.writer, head.format.major, head.format.minor
        ));
    }
    Report {
        stream: config.stream.clone(),
        dry_run: options.dry_run,
        was,
        key,
        last_seq: head.last_seq,
        chain: head.tip,
        warnings,
    }
}
