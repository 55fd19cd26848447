//! Status codes. The vocabulary is `rsip`'s; the phrases are those of the RFCs that define the codes, because rsip
//! writes its variant names ("BusyHere") on the wire.

use rsip::StatusCode;

/// The usual reason phrase of a status code.
pub fn reason_phrase(status: u16) -> &'static str {
    match StatusCode::from(status) {
        StatusCode::Trying => "Trying",
        StatusCode::Ringing => "Ringing",
        StatusCode::CallIsBeingForwarded => "Call Is Being Forwarded",
        StatusCode::Queued => "Queued",
        StatusCode::SessionProgress => "Session Progress",
        StatusCode::EarlyDialogTerminated => "Early Dialog Terminated",
        StatusCode::OK => "OK",
        StatusCode::Accepted => "Accepted",
        StatusCode::NoNotification => "No Notification",
        StatusCode::MultipleChoices => "Multiple Choices",
        StatusCode::MovedPermanently => "Moved Permanently",
        StatusCode::MovedTemporarily => "Moved Temporarily",
        StatusCode::UseProxy => "Use Proxy",
        StatusCode::AlternativeService => "Alternative Service",
        StatusCode::BadRequest => "Bad Request",
        StatusCode::Unauthorized => "Unauthorized",
        StatusCode::PaymentRequired => "Payment Required",
        StatusCode::Forbidden => "Forbidden",
        StatusCode::NotFound => "Not Found",
        StatusCode::MethodNotAllowed => "Method Not Allowed",
        StatusCode::NotAcceptable => "Not Acceptable",
        StatusCode::ProxyAuthenticationRequired => "Proxy Authentication Required",
        StatusCode::RequestTimeout => "Request Timeout",
        StatusCode::Conflict => "Conflict",
        StatusCode::Gone => "Gone",
        StatusCode::LengthRequired => "Length Required",
        StatusCode::ConditionalRequestFailed => "Conditional Request Failed",
        StatusCode::RequestEntityTooLarge => "Request Entity Too Large",
        StatusCode::RequestUriTooLong => "Request-URI Too Long",
        StatusCode::UnsupportedMediaType => "Unsupported Media Type",
        StatusCode::UnsupportedUriScheme => "Unsupported URI Scheme",
        StatusCode::UnknownResourcePriority => "Unknown Resource-Priority",
        StatusCode::BadExtension => "Bad Extension",
        StatusCode::ExtensionRequired => "Extension Required",
        StatusCode::SessionIntervalTooSmall => "Session Interval Too Small",
        StatusCode::IntervalTooBrief => "Interval Too Brief",
        StatusCode::BadLocationInformation => "Bad Location Information",
        StatusCode::UseIdentityHeader => "Use Identity Header",
        StatusCode::ProvideReferrerIdentity => "Provide Referrer Identity",
        StatusCode::AnonymityDisallowed => "Anonymity Disallowed",
        StatusCode::BadIdentityInfo => "Bad Identity-Info",
        StatusCode::UnsupportedCertificate => "Unsupported Certificate",
        StatusCode::InvalidIdentityHeader => "Invalid Identity Header",
        StatusCode::FirstHopLacksOutboundSupport => "First Hop Lacks Outbound Support",
        StatusCode::MaxBreadthExceeded => "Max-Breadth Exceeded",
        StatusCode::BadInfoPackage => "Bad Info Package",
        StatusCode::ConsentNeeded => "Consent Needed",
        StatusCode::TemporarilyUnavailable => "Temporarily Unavailable",
        StatusCode::CallTransactionDoesNotExist => "Call/Transaction Does Not Exist",
        StatusCode::LoopDetected => "Loop Detected",
        StatusCode::TooManyHops => "Too Many Hops",
        StatusCode::AddressIncomplete => "Address Incomplete",
        StatusCode::Ambiguous => "Ambiguous",
        StatusCode::BusyHere => "Busy Here",
        StatusCode::RequestTerminated => "Request Terminated",
        StatusCode::NotAcceptableHere | StatusCode::NotAcceptableGlobal => "Not Acceptable Here",
        StatusCode::BadEvent => "Bad Event",
        StatusCode::RequestPending => "Request Pending",
        StatusCode::Undecipherable => "Undecipherable",
        StatusCode::SecurityAgreementRequired => "Security Agreement Required",
        StatusCode::ServerInternalError => "Server Internal Error",
        StatusCode::NotImplemented => "Not Implemented",
        StatusCode::BadGateway => "Bad Gateway",
        StatusCode::ServiceUnavailable => "Service Unavailable",
        StatusCode::ServerTimeOut => "Server Time-out",
        StatusCode::VersionNotSupported => "Version Not Supported",
        StatusCode::MessageTooLarge => "Message Too Large",
        StatusCode::PreconditionFailure => "Precondition Failure",
        StatusCode::BusyEverywhere => "Busy Everywhere",
        StatusCode::Decline => "Decline",
        StatusCode::DoesNotExistAnywhere => "Does Not Exist Anywhere",
        StatusCode::Unwanted => "Unwanted",
        StatusCode::Other(code, _) => class_phrase(code),
    }
}

/// What to call a code that no RFC of ours defines: the meaning of its class (RFC 3261 section 7.2).
fn class_phrase(code: u16) -> &'static str {
    match code / 100 {
        // RFC 5626 section 11.5, which rsip doesn't know.
        _ if code == 430 => "Flow Failed",
        1 => "Session Progress",
        2 => "OK",
        3 => "Redirected",
        4 => "Request Failure",
        5 => "Server Failure",
        _ => "Global Failure",
    }
}

#[cfg(test)]
mod tests {
    use super::reason_phrase;

    #[test]
    fn phrases_are_those_of_the_rfcs_and_unknown_codes_have_one_too() {
        assert_eq!(reason_phrase(486), "Busy Here");
        assert_eq!(reason_phrase(100), "Trying");
        assert_eq!(reason_phrase(430), "Flow Failed");
        assert_eq!(reason_phrase(499), "Request Failure");
        assert_eq!(reason_phrase(65535), "Global Failure");
    }
}
