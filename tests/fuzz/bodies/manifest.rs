//! Manifests of dumps, requests for them, and reports of regions: what is read is written again as it was.

use tablecast::stream::{Key, Manifest, RegionReport, Request};

use super::is_of_the_bucket;
use super::sealed::sealed;

pub fn manifest(data: &[u8]) {
    read(data);
    read(&sealed(data));
}

fn read(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let text = |name: &str| value.get(name).and_then(|value| value.as_str());
    if let Some(Ok(id)) = text("id").map(str::parse)
        && let Ok(manifest) = Manifest::parse(&id, bytes).inspect_err(is_of_the_bucket)
    {
        let written = manifest.to_json().expect("what was read is sound");
        assert_eq!(Manifest::parse(&id, &written).expect("as it was written"), manifest);
        let named = manifest.speaks_about();
        assert!(named.is_sorted());
        assert!(manifest.tables.iter().all(|table| manifest.table(&table.table) == Some(table)));
    }
    if let Some(Ok(id)) = text("id").map(str::parse)
        && let Ok(request) = Request::parse(&id, bytes).inspect_err(is_of_the_bucket)
    {
        let written = request.to_json().expect("what was read is sound");
        assert_eq!(Request::parse(&id, &written).expect("as it was written"), request);
        assert_eq!(Request::parse_newest(&written).expect("as it was written"), request);
    }
    // Whatever it says that it is of.
    let _ = RegionReport::parse("eu1", bytes).inspect_err(is_of_the_bucket);
    if let Some(region) = text("region")
        && Key::region(region).is_ok()
        && let Ok(report) = RegionReport::parse(region, bytes).inspect_err(is_of_the_bucket)
    {
        let written = report.to_json().expect("what was read is sound");
        assert_eq!(RegionReport::parse(region, &written).expect("as it was written"), report);
    }
}
