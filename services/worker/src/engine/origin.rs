//! For which request something is done, so that what it causes is told in the trace of that request.

use streamgate_client::RequestContext;
use tracing::Instrument as _;

/// A request and the span of what is done for it. Cheap to clone; its span lasts as long as it does.
#[derive(Debug, Clone)]
pub struct Origin {
    request: Option<RequestContext>,
    span: tracing::Span,
}

impl Origin {
    /// What the current task works for.
    #[must_use]
    pub fn current() -> Self {
        Self { request: RequestContext::current(), span: tracing::Span::current() }
    }

    /// Does some of that work in another task.
    pub async fn scope<F: Future>(&self, work: F) -> F::Output {
        let work = work.instrument(self.span.clone());
        match self.request.clone() {
            Some(request) => request.scope(work).await,
            None => work.await,
        }
    }

    /// The same for work that does not wait.
    pub fn within<R>(&self, work: impl FnOnce() -> R) -> R {
        self.span.in_scope(|| match self.request.clone() {
            Some(request) => request.within(work),
            None => work(),
        })
    }
}
