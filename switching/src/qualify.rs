//! The OPTIONS by which a phone is asked whether it is still there (RFC 3261 section 11).
//!
//! It has no transaction: it is sent once and forgotten by the transport, [`crate::registration`] asks again, and any answer
//! will do. Its branch is our mark, a dash-less word that no leg has, and the token of the asking.

use tandem_sip::build::RequestBuilder;
use tandem_sip::header::Header;
use tandem_sip::message::Message;
use tandem_sip::method::Method;
use tandem_sip::via::MAGIC_COOKIE;
use tandem_state::Binding;

use crate::routing::via_transport;

/// What stands between the cookie and the token.
const MARK: &str = "q";

/// The question to the phone of a binding; `None` when its contact can't be put into a message. The token is random and
/// secret: whoever knows it has heard the question.
pub fn question(binding: &Binding, sent_by: &str, product: &str, token: u64) -> Option<Message> {
    let spec = &binding.spec;
    let transport = via_transport(spec.flow.transport);
    let (branch, tag) = (format!("{MAGIC_COOKIE}{MARK}{token:016x}"), format!("{:08x}", token >> 32));
    let (from, to) = (format!("<sip:{sent_by}>;tag={tag}"), format!("<{}>", spec.contact));
    let request = RequestBuilder::new(Method::Options, &spec.contact).via(transport, sent_by, &branch);
    let request = spec.path.iter().fold(request, |request, hop| request.header(Header::Route, hop));
    request
        .max_forwards(70)
        .dialog_headers(&from, &to, &format!("{token:016x}@{sent_by}"), 1)
        .header(Header::Accept, "application/sdp")
        .header(Header::UserAgent, product)
        .build()
        .ok()
}

/// The token of the question that this answers.
pub fn token_of(answer: &Message) -> Option<u64> {
    let token = answer.via_top().branch?.strip_prefix(MAGIC_COOKIE)?.strip_prefix(MARK)?;
    u64::from_str_radix(token, 16).ok().filter(|_| token.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use tandem_sip::build::ResponseBuilder;
    use tandem_state::*;

    fn binding() -> Binding {
        let spec = NewBinding {
            tenant: TenantId(1),
            number: "101".into(),
            key: BindingKey::Contact("sip:101@192.0.2.1".into()),
            contact: "sip:101@192.0.2.1".into(),
            flow: fixture::flow(0),
            path: vec!["<sip:edge.example;lr>".into()],
            call_id: "r1".into(),
            cseq: 1,
            q_milli: 1_000,
            user_agent: String::new(),
            expires: ClusterTime(9_000),
        };
        Binding { spec, revision: Revision(1), since: ClusterTime(1) }
    }

    #[test]
    fn a_phone_is_asked_by_its_path_and_its_answer_names_the_question() {
        let question = question(&binding(), "sip.example:5060", "Tandem", 0xabc).unwrap();
        let expected = "OPTIONS sip:101@192.0.2.1 SIP/2.0\r\n\
            Via: SIP/2.0/UDP sip.example:5060;branch=z9hG4bKq0000000000000abc;rport\r\n\
            Route: <sip:edge.example;lr>\r\nMax-Forwards: 70\r\n\
            From: <sip:sip.example:5060>;tag=00000000\r\nTo: <sip:101@192.0.2.1>\r\n\
            Call-ID: 0000000000000abc@sip.example:5060\r\nCSeq: 1 OPTIONS\r\n\
            Accept: application/sdp\r\nUser-Agent: Tandem\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(std::str::from_utf8(question.bytes()).unwrap(), expected);
        let answer = ResponseBuilder::to(&question, 200, "t").build().unwrap();
        assert_eq!(token_of(&answer), Some(0xabc));
    }

    #[test]
    fn a_leg_is_no_question_and_a_question_is_no_leg() {
        let leg = format!("{MAGIC_COOKIE}{}-1", LegId(7));
        let question = question(&binding(), "sip.example:5060", "Tandem", u64::MAX).unwrap();
        let asked = question.via_top().branch.unwrap().to_owned();
        assert_eq!(crate::call::branch_leg(&asked), None);
        let invite = question.with_top_via(&format!("SIP/2.0/UDP h;branch={leg}")).unwrap();
        assert_eq!(token_of(&invite), None);
    }

    #[test]
    fn a_contact_that_is_no_uri_is_not_asked() {
        let mut odd = binding();
        odd.spec.contact = "sip:a b".into();
        assert_eq!(question(&odd, "sip.example:5060", "Tandem", 1), None);
    }
}
