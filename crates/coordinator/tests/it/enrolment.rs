//! Machines get their certificates, keep them, and lose them.

use std::time::Duration;

use api::coordinator::{
    ApproveIdentityRequest, CreateTokenRequest, EnrollRequest, GetFarmRequest, ListIdentitiesRequest,
    RenewRequest, RequestIdentityRequest, RevokeIdentityRequest, RevokeTokenRequest,
    enrolment_service_client::EnrolmentServiceClient, farm_service_client::FarmServiceClient,
};
use rpc::{Identity, KeyRequest, Trouble, Trust, reverse::DialError};
use tonic::{Code, Status};

use crate::farm::TestFarm;

type Enrolment = EnrolmentServiceClient<rpc::Channel>;

impl TestFarm {
    /// A machine that has no certificate yet.
    fn guest(&self) -> Enrolment {
        let trust = Trust::Guest(self.authority.certificate_pem());
        EnrolmentServiceClient::new(rpc::connect_via(&self.internal_url(), trust, None).unwrap())
    }

    async fn token(&self, uses: u32, lifetime: Duration) -> String {
        let lifetime = Some(rpc::duration(lifetime));
        let request = CreateTokenRequest { host_types: vec!["local".to_owned()], uses, lifetime };
        self.operator().create_token(request).await.unwrap().into_inner().secret
    }

    async fn enrol(&self, name: &str, request: &KeyRequest, token: &str) -> Result<Option<Identity>, Status> {
        let message = EnrollRequest {
            csr_pem: request.csr_pem.clone(),
            name: name.to_owned(),
            host_types: vec!["local".to_owned()],
            token: token.to_owned(),
        };
        let answer = self.guest().enroll(message).await?.into_inner();
        Ok(answer.certificate.map(|certificate| Identity {
            certificate_pem: certificate.certificate_pem,
            key_pem: request.key_pem.clone(),
            ca_pem: certificate.authority_pem,
        }))
    }

    async fn revoke(&self, name: &str) -> Result<(), Status> {
        let request = RevokeIdentityRequest { name: name.to_owned(), reason: "it is sold".to_owned() };
        self.operator().revoke_identity(request).await.map(|_| ())
    }

    async fn states(&self) -> Vec<String> {
        let listed = self.operator().list_identities(ListIdentitiesRequest {}).await.unwrap().into_inner();
        listed.identities.iter().map(|identity| format!("{} {}", identity.name, identity.state)).collect()
    }
}

fn key(name: &str) -> KeyRequest {
    KeyRequest::make(&name.parse().unwrap()).unwrap()
}

fn is_refused<T>(answer: Result<T, Status>, code: Code, reason: &str) {
    let Err(status) = answer else { panic!("{reason} was let through") };
    assert_eq!((status.code(), rpc::reason(&status).as_deref()), (code, Some(reason)), "{status}");
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_token_enrols_one_machine_which_then_builds() {
    let farm = TestFarm::start().await;
    let token = farm.token(1, HOUR).await;
    let request = key("m1");
    let identity = farm.enrol("m1", &request, &token).await.unwrap().unwrap();
    // The answer was lost: the same machine asks again.
    farm.enrol("m1", &request, &token).await.unwrap().unwrap();
    is_refused(farm.enrol("m2", &key("m2"), &token).await, Code::Unauthenticated, "BAD_TOKEN");
    let _machine = farm.connect_as(&farm.machine("m1"), &identity, "1").await.unwrap();
    farm.machine_state("m1", "idle").await;
    assert_eq!(farm.states().await, ["m1 enrolled"]);
    farm.finish().await;
}

#[tokio::test]
async fn a_token_that_is_no_good_is_said_to_be_so() {
    let farm = TestFarm::start().await;
    is_refused(farm.enrol("m1", &key("m1"), "guessed").await, Code::Unauthenticated, "BAD_TOKEN");
    let late = farm.token(1, Duration::from_micros(1)).await;
    is_refused(farm.enrol("m1", &key("m1"), &late).await, Code::Unauthenticated, "BAD_TOKEN");
    let many = farm.token(0, HOUR).await;
    let listed = farm.operator().list_identities(ListIdentitiesRequest {}).await.unwrap().into_inner();
    let [token] = &listed.tokens[..] else { panic!("{:?}", listed.tokens) };
    farm.operator().revoke_token(RevokeTokenRequest { id: token.id.clone() }).await.unwrap();
    is_refused(farm.enrol("m1", &key("m1"), &many).await, Code::Unauthenticated, "BAD_TOKEN");
    let unknown = CreateTokenRequest { host_types: vec!["mars".to_owned()], uses: 1, lifetime: None };
    is_refused(farm.operator().create_token(unknown).await, Code::NotFound, "UNKNOWN_HOST_TYPE");
    let message =
        EnrollRequest { csr_pem: "no request".to_owned(), name: "m1".to_owned(), ..Default::default() };
    is_refused(farm.guest().enroll(message).await, Code::InvalidArgument, "BAD_REQUEST");
    farm.finish().await;
}

#[tokio::test]
async fn two_machines_cannot_have_one_name() {
    let farm = TestFarm::start().await;
    let token = farm.token(0, HOUR).await;
    let first = farm.enrol("m1", &key("m1"), &token).await.unwrap().unwrap();
    is_refused(farm.enrol("m1", &key("m1"), &token).await, Code::AlreadyExists, "NAME_TAKEN");
    // One of them was copied: who is there stays, the other is told.
    let _machine = farm.connect_as(&farm.machine("m1"), &first, "one").await.unwrap();
    farm.machine_state("m1", "idle").await;
    let refused = farm.connect_as(&farm.machine("m1"), &first, "two").await.unwrap_err();
    assert!(
        matches!(&refused, DialError::Refused { status, message }
            if *status == 409 && message.contains("another machine is connected as `m1`")),
        "{refused}"
    );
    // The same life may come back over a new connection at any time.
    let _again = farm.connect_as(&farm.machine("m1"), &first, "one").await.unwrap();
    // A machine of `farmer up` has its certificate from elsewhere; its name is not free either.
    let _local = farm.connect(&farm.machine("local-1")).await;
    farm.machine_state("local-1", "idle").await;
    is_refused(farm.enrol("local-1", &key("local-1"), &token).await, Code::AlreadyExists, "NAME_TAKEN");
    farm.finish().await;
}

#[tokio::test]
async fn an_operator_lets_a_machine_in_that_has_no_token() {
    let farm = TestFarm::start().await;
    let request = key("m1");
    assert!(farm.enrol("m1", &request, "").await.unwrap().is_none());
    is_refused(farm.enrol("m1", &key("m1"), "").await, Code::AlreadyExists, "NAME_TAKEN");
    assert_eq!(farm.states().await, ["m1 requested"]);
    let approve = ApproveIdentityRequest { name: "m1".to_owned(), host_types: Vec::new() };
    farm.operator().approve_identity(approve).await.unwrap();
    let identity = farm.enrol("m1", &request, "").await.unwrap().unwrap();
    let _machine = farm.connect_as(&farm.machine("m1"), &identity, "1").await.unwrap();
    farm.machine_state("m1", "idle").await;
    // By hand: the request is carried to an operator.
    let offline = RequestIdentityRequest {
        csr_pem: key("m2").csr_pem,
        name: String::new(),
        host_types: vec!["local".to_owned()],
    };
    let noted = farm.operator().request_identity(offline).await.unwrap().into_inner().identity.unwrap();
    assert_eq!((noted.name.as_str(), noted.state.as_str()), ("m2", "requested"));
    farm.finish().await;
}

#[tokio::test]
async fn a_revoked_machine_is_cut_off_and_stays_out() {
    let mut farm = TestFarm::start().await;
    let many = farm.token(0, HOUR).await;
    let request = key("m1");
    let identity = farm.enrol("m1", &request, &many).await.unwrap().unwrap();
    let _machine = farm.connect_as(&farm.machine("m1"), &identity, "1").await.unwrap();
    farm.machine_state("m1", "idle").await;
    farm.revoke("m1").await.unwrap();
    farm.machine_state("m1", "lost").await;
    let is_revoked =
        |error: &DialError| matches!(error, DialError::Certificate { trouble: Trouble::OursRevoked, .. });
    let refused = farm.connect_as(&farm.machine("m1"), &identity, "1").await.unwrap_err();
    assert!(is_revoked(&refused), "{refused}");
    is_refused(farm.enrol("m1", &request, &many).await, Code::PermissionDenied, "REVOKED");
    is_refused(farm.enrol("other", &request, &many).await, Code::PermissionDenied, "REVOKED");
    is_refused(farm.enrol("m1", &key("m1"), &many).await, Code::PermissionDenied, "REVOKED");
    farm.stop_coordinator().await;
    farm.start_coordinator().await;
    let refused = farm.connect_as(&farm.machine("m1"), &identity, "1").await.unwrap_err();
    assert!(is_revoked(&refused), "after a restart: {refused}");
    // Made anew, with a token for it alone: in with its new key, and not with the old one.
    let once = farm.token(1, HOUR).await;
    let anew = farm.enrol("m1", &key("m1"), &once).await.unwrap().unwrap();
    let _machine = farm.connect_as(&farm.machine("m1"), &anew, "2").await.unwrap();
    let refused = farm.connect_as(&farm.machine("m1"), &identity, "1").await.unwrap_err();
    assert!(is_revoked(&refused), "the old key: {refused}");
    is_refused(farm.revoke("nobody").await, Code::NotFound, "UNKNOWN_MACHINE");
    farm.finish().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_for_its_own_key_only() {
    let farm = TestFarm::start().await;
    let token = farm.token(1, HOUR).await;
    let request = key("m1");
    let identity = farm.enrol("m1", &request, &token).await.unwrap().unwrap();
    let channel = rpc::connect(&farm.internal_url(), Some(&identity)).unwrap();
    let mut machine = EnrolmentServiceClient::new(channel);
    let renewed =
        machine.renew(RenewRequest { csr_pem: request.csr_pem.clone() }).await.unwrap().into_inner();
    let certificate = renewed.certificate.unwrap();
    let next = Identity { certificate_pem: certificate.certificate_pem, ..identity };
    let _machine = farm.connect_as(&farm.machine("m1"), &next, "1").await.unwrap();
    let other = RenewRequest { csr_pem: key("m1").csr_pem };
    is_refused(machine.renew(other).await, Code::PermissionDenied, "OTHER_KEY");
    // A guest may ask to be enrolled, and for nothing else.
    let renew = RenewRequest { csr_pem: request.csr_pem };
    is_refused(farm.guest().renew(renew).await, Code::Unauthenticated, "NO_CERTIFICATE");
    let trust = Trust::Guest(farm.authority.certificate_pem());
    let guest = rpc::connect_via(&farm.internal_url(), trust, None).unwrap();
    let snapshot = guest.get("/snapshot/00.tar.zst").await.unwrap();
    assert_eq!(snapshot.status(), 403);
    let asked = FarmServiceClient::new(guest).get_farm(GetFarmRequest {}).await;
    is_refused(asked, Code::Unauthenticated, "NO_CERTIFICATE");
    farm.finish().await;
}

#[tokio::test]
async fn an_expired_certificate_is_named_as_the_cause() {
    let farm = TestFarm::start().await;
    let request = key("m1");
    let name = "m1".parse().unwrap();
    let signed = farm.authority.sign_machine(&request.csr_pem, &name, &[], Duration::ZERO).unwrap();
    let expired = Identity {
        certificate_pem: signed.certificate_pem.clone(),
        key_pem: request.key_pem,
        ca_pem: farm.authority.certificate_pem().to_owned(),
    };
    // A certificate is good to the end of its last second.
    let ends = signed.expires + Duration::from_secs(1);
    while runtime::system_clock().now() <= ends {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = farm.connect_as(&farm.machine("m1"), &expired, "1").await.unwrap_err();
    assert!(matches!(refused, DialError::Certificate { trouble: Trouble::OursExpired, .. }), "{refused}");
    farm.finish().await;
}
