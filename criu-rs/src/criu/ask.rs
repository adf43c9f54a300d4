//! Questions to CRIU, which have no options.

use super::features::Features;
use crate::drive::{Driver, Finished, Job};
use crate::error::Result;
use crate::options::RunLimits;
use crate::rpc::{CriuFeatures, CriuReq, CriuReqType};
use crate::transport::{Link, Subject};
use crate::undo::Strays;
use crate::value::Build;

/// Sends a request that has no options.
pub(crate) fn exchange(
    link: Link,
    operation: &'static str,
    request: CriuReq,
) -> Result<(Finished, Link)> {
    let worker_ends = !request.keep_open();
    let job = Job {
        operation,
        request,
        needed: None,
        subject: Subject::None,
        strays: Strays::default(),
        log: None,
        worker_ends,
        guards: Vec::new(),
        images: None,
    };
    Driver::new(link, job, RunLimits::default())?.finish(&mut ())
}

/// Asks for the version (VERSION).
pub(crate) fn ask_build(link: Link, keep_open: bool) -> Result<(Build, Link)> {
    let request = CriuReq {
        r#type: CriuReqType::Version.into(),
        keep_open: keep_open.then_some(true),
        ..Default::default()
    };
    let (finished, link) = exchange(link, "version", request)?;
    Ok((finished.reply.version.unwrap_or_default().into(), link))
}

/// Asks for all optional features (FEATURE_CHECK).
pub(crate) fn ask_features(link: Link, keep_open: bool) -> Result<(Features, Link)> {
    let request = CriuReq {
        r#type: CriuReqType::FeatureCheck.into(),
        keep_open: keep_open.then_some(true),
        features: Some(CriuFeatures {
            mem_track: Some(true),
            lazy_pages: Some(true),
            pidfd_store: Some(true),
            mem_compression: Some(true),
        }),
        ..Default::default()
    };
    let (finished, link) = exchange(link, "feature check", request)?;
    Ok((finished.reply.features.unwrap_or_default().into(), link))
}
