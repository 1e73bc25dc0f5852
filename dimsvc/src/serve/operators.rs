//! The service for operators, as tonic calls it.

use super::{admin::Admin, explain::explain, lookup::Lookups, server::grpc_timeout};
use crate::audit::{Findings, Mismatch, Tally};
use futures_util::Stream;
use std::{pin::Pin, sync::Arc};
use tidemark_proto::dim::v1::{
    AuditMismatch, AuditRequest, AuditResponse, ExplainRequest, ExplainResponse, InvalidateRequest,
    InvalidateResponse, RepairProgress, RepairRequest, admin_service_server::AdminService,
};
use tonic::{Request, Response, Status};

/// What operators ask beside what lookups use.
#[derive(Clone, Debug)]
pub struct Operators {
    pub admin: Arc<Admin>,
    pub findings: Arc<Findings>,
}

/// The service, as tonic calls it.
#[derive(Clone, Debug)]
pub(super) struct Operated {
    pub(super) lookups: Arc<Lookups>,
    pub(super) operators: Operators,
}

#[tonic::async_trait]
impl AdminService for Operated {
    type RepairStream = Pin<Box<dyn Stream<Item = Result<RepairProgress, Status>> + Send>>;

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let timeout = grpc_timeout(request.metadata());
        Ok(Response::new(explain(&self.lookups, request.into_inner(), timeout).await?))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        Ok(Response::new(self.operators.admin.invalidate(request.get_ref()).await?))
    }

    async fn repair(&self, request: Request<RepairRequest>) -> Result<Response<Self::RepairStream>, Status> {
        let progress = self.operators.admin.repair(request.get_ref())?;
        Ok(Response::new(Box::pin(progress)))
    }

    async fn audit(&self, _: Request<AuditRequest>) -> Result<Response<AuditResponse>, Status> {
        Ok(Response::new(audited(self.operators.findings.tally())))
    }
}

fn audited(tally: Tally) -> AuditResponse {
    AuditResponse {
        checks: tally.checks,
        mismatches: tally.mismatches,
        raced: tally.raced,
        nines: tally.nines(),
        worst_staleness_seconds: tally.worst_staleness.as_secs_f64(),
        last: tally.last.into_iter().map(mismatch).collect(),
    }
}

fn mismatch(mismatch: Mismatch) -> AuditMismatch {
    let Mismatch { dimension, key, at, tier, held, expected } = mismatch;
    AuditMismatch {
        table: dimension.to_string(),
        key: String::from_utf8_lossy(key.as_bytes()).into_owned(),
        at: at.packed(),
        tier: tier as i32,
        held,
        expected,
    }
}
