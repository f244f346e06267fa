//! An S3 server on loopback for `scripts/bench`, the tests' own: it costs next to nothing, and counts. Prints its
//! endpoint, and for every line that it reads how many requests there were since the last one. Ends with its input.

#[allow(dead_code, reason = "a kit of the tests: a bench needs little of it")]
#[path = "../tests/support/s3.rs"]
mod s3;

use std::io::Write;

fn main() -> std::io::Result<()> {
    let server = s3::S3Server::start();
    println!("endpoint={} bucket={}", server.endpoint(), s3::BUCKET);
    for line in std::io::stdin().lines() {
        line?;
        println!("{}", server.asked().len());
        std::io::stdout().flush()?;
    }
    Ok(())
}
