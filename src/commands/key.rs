//! `tablecast key`: a key pair that signs a stream's index; the public key of one that is there.

use std::path::PathBuf;

use rand::RngCore;
use serde_json::json;

use super::output::Output;
use crate::error::Result;
use crate::signing::SecretKey;

/// Make a key that signs the index, in a new file; print its public key
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast key /etc/tablecast/sign.key           at the source, as the user that runs tablecast
  tablecast key --show /etc/tablecast/sign.key    the public key once more

The file holds the secret key: mode 0600, for [sign] key_file at the source, and in no bucket. The public key goes
into [trust] public_keys in each region. docs/runbooks/sign-the-stream.md says in which order.")]
pub struct Args {
    /// The file; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Only print the public key of the key in FILE
    #[arg(long)]
    show: bool,
}

pub fn run(args: &Args) -> Result<Output> {
    let path = args.file.display();
    let key = match args.show {
        true => SecretKey::load(&args.file)?,
        false => {
            let mut random = [0; 32];
            rand::rng().fill_bytes(&mut random);
            SecretKey::make(&args.file, random)?
        }
    };
    let public = key.public();
    let line = format!("public_keys = [\"{public}\"]");
    let text = match args.show {
        true => format!("# key {} in {path}: for [trust]\n{line}", public.id()),
        false => format!(
            "# key {} made in {path}, which is secret\n# its public key: into the config of each region\n[trust]\n{line}",
            public.id()
        ),
    };
    let json = json!({"file": path.to_string(), "key": public.id(), "public_key": public.to_string()});
    Ok(Output::new(text, json))
}
