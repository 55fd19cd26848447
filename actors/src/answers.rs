//! Responses that no call and no registration makes: of the switch itself.

use tandem_sip::build::ResponseBuilder;
use tandem_sip::header::Header;
use tandem_sip::message::Message;

use crate::shared::Shared;

/// A response of the switch itself, `None` if the request can't be answered (its values would not build a message).
pub(crate) fn build(
    shared: &Shared,
    request: &Message,
    status: u16,
    more: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
) -> Option<Message> {
    build_tagged(shared, request, status, &shared.ids.leg().to_string(), more)
}

/// The same under a tag that is given.
pub(crate) fn build_tagged(
    shared: &Shared,
    request: &Message,
    status: u16,
    tag: &str,
    more: impl FnOnce(ResponseBuilder) -> ResponseBuilder,
) -> Option<Message> {
    more(ResponseBuilder::to(request, status, tag))
        .header(Header::Server, &shared.settings.product)
        .build()
        .ok()
}
