//! The application that serves each connection: the faces of a listener, and what they share. It has no routes of
//! actix-web's: `middleware.rs` looks each request up in a face's route table, because logs, metrics and the limits on
//! bodies depend on the route before its handler runs.

use std::sync::Arc;

use actix_service::fn_service;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use domain::{RequestSid, Timestamp};
use futures_util::future::LocalBoxFuture;

use crate::face::Face;
use crate::middleware;
use crate::settings::{Interceptor, Settings, Shared};

/// The faces of a listener, with the settings and the state that they share. All worker threads share them too.
#[derive(Clone)]
pub struct Application {
    shared: Shared,
    main: Arc<dyn Handle>,
    mounted: Vec<Mounted>,
}

/// A face that serves the paths below a prefix.
#[derive(Clone)]
struct Mounted {
    prefix: &'static str,
    face: Arc<dyn Handle>,
}

/// A [`Face`] whose own types are hidden, so that faces of different types fit into one list.
trait Handle: Send + Sync {
    fn handle(
        self: Arc<Self>,
        shared: Arc<Shared>,
        request: ServiceRequest,
    ) -> LocalBoxFuture<'static, ServiceResponse>;
}

impl<F: Face> Handle for F {
    fn handle(
        self: Arc<Self>,
        shared: Arc<Shared>,
        request: ServiceRequest,
    ) -> LocalBoxFuture<'static, ServiceResponse> {
        Box::pin(middleware::handle(self, shared, request))
    }
}

impl Application {
    /// Creates an application with one face, which serves every path. `new_request_id` creates the ID of each request.
    pub fn new(
        settings: Settings,
        new_request_id: impl Fn() -> RequestSid + Send + Sync + 'static,
        main: impl Face,
    ) -> Self {
        let shared = Shared {
            settings,
            request_ids: Arc::new(new_request_id),
            headers: Vec::new(),
            date: None,
            interceptor: None,
        };
        Self { shared, main: Arc::new(main), mounted: Vec::new() }
    }

    /// Adds a face for the path `prefix` and all paths below it. The face's routes contain the prefix, which has no
    /// slash at its end.
    #[must_use]
    pub fn mount(mut self, prefix: &'static str, face: impl Face) -> Self {
        self.mounted.push(Mounted { prefix, face: Arc::new(face) });
        self
    }

    /// Adds a header to every response of every face.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.shared.headers.push((name, value));
        self
    }

    /// Takes the time in the `Date` header of every response from `now` instead of the machine's clock.
    #[must_use]
    pub fn with_date(mut self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.shared.date = Some(Arc::new(now));
        self
    }

    /// Lets `interceptor` respond to requests of any face instead of their handlers.
    #[must_use]
    pub fn with_interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.shared.interceptor = Some(Arc::new(interceptor));
        self
    }

    /// Returns the settings and the state that the faces share.
    pub const fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Returns the face for a decoded path.
    fn face(&self, path: &str) -> &Arc<dyn Handle> {
        let contains = |mounted: &&Mounted| {
            path.strip_prefix(mounted.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounted.iter().find(contains).map_or(&self.main, |mounted| &mounted.face)
    }

    /// Builds the application of one worker thread.
    pub(crate) fn into_app(
        self,
    ) -> actix_web::App<
        impl ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse,
            Error = actix_web::Error,
            InitError = (),
        >,
    > {
        let shared = Arc::new(self.shared.clone());
        let application = Arc::new(self);
        actix_web::App::new().default_service(fn_service(move |request: ServiceRequest| {
            let face = Arc::clone(application.face(request.match_info().as_str()));
            let handling = face.handle(Arc::clone(&shared), request);
            async move { Ok::<_, actix_web::Error>(handling.await) }
        }))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::{Method, StatusCode, header};
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::{HttpRequest, HttpResponse};
    use domain::{Code, Problem, Sid as _};

    use super::*;
    use crate::context::RequestContext;
    use crate::face::BodySender;
    use crate::load_shedding::BodyMemory;
    use crate::request::ReceivedRequest;
    use crate::route::{BodyLimit, Route, RouteMatch, Router};
    use crate::status::status;

    const fn route(method: &'static str, path: &'static str, body: BodyLimit) -> Route<&'static str> {
        Route { method, path, body, endpoint: path }
    }

    const MAIN: &[Route<&str>] =
        &[route("GET", "/phone", BodyLimit::Small), route("GET", "/a", BodyLimit::Small)];

    const PHONE: &[Route<&str>] = &[
        route("GET", "/phone", BodyLimit::Small),
        route("GET", "/phone/{File}", BodyLimit::Small),
        route("POST", "/phone/small", BodyLimit::UpTo(8)),
        route("POST", "/phone/large", BodyLimit::UpTo(100_000)),
        route("POST", "/phone/panic", BodyLimit::Small),
    ];

    /// A face with error bodies and a header that contain its name. It responds with the pattern of the route and the
    /// length of the body.
    struct Named {
        name: &'static str,
        router: Router<&'static str>,
    }

    impl Named {
        fn new(name: &'static str, routes: &'static [Route<&'static str>]) -> Self {
            Self { name, router: Router::new(routes) }
        }
    }

    impl Face for Named {
        type Endpoint = &'static str;
        type Authentication = ();

        fn find(&self, path: &str, method: &Method) -> RouteMatch<&'static str> {
            self.router.find(path, method)
        }

        async fn authenticate(&self, http: &HttpRequest, _: RequestContext) -> BodySender<()> {
            let is_known = http.headers().contains_key(header::AUTHORIZATION);
            BodySender { memory: is_known.then_some(BodyMemory::Backends), authentication: () }
        }

        async fn call(
            &self,
            route: &'static Route<&'static str>,
            request: ReceivedRequest<()>,
        ) -> HttpResponse {
            assert_ne!(route.endpoint, "/phone/panic");
            match request.body {
                Ok(body) => HttpResponse::Ok().body(format!("{} {}", request.pattern, body.len())),
                Err(problem) => self.problem_response(&problem),
            }
        }

        fn problem_response(&self, problem: &Problem) -> HttpResponse {
            HttpResponse::build(status(problem.code())).body(self.name)
        }

        fn add_headers(&self, _: &HttpRequest, _: RequestContext, response: &mut HttpResponse) {
            response.headers_mut().insert(header::SERVER, HeaderValue::from_static(self.name));
        }
    }

    fn application() -> Application {
        let new_request_id = || RequestSid::from_bytes([1; 16]);
        Application::new(Settings::default(), new_request_id, Named::new("main", MAIN))
            .mount("/phone", Named::new("phone", PHONE))
            .with_header(HeaderName::from_static("test-mode"), HeaderValue::from_static("on"))
    }

    /// Sends a request to the application. Returns the response's status, its body, and the name of the face.
    async fn send(application: Application, request: TestRequest) -> (StatusCode, String, String) {
        let service = init_service(application.into_app()).await;
        let response = call_service(&service, request.to_request()).await;
        assert_eq!(response.headers().get("test-mode").unwrap(), "on");
        let status = response.status();
        let face = response.headers().get(header::SERVER).unwrap().to_str().unwrap().to_owned();
        let body = read_body(response).await;
        (status, str::from_utf8(&body).unwrap().to_owned(), face)
    }

    async fn get(path: &str) -> (StatusCode, String, String) {
        send(application(), TestRequest::get().uri(path)).await
    }

    fn post(path: &str, bytes: usize) -> TestRequest {
        // `TestRequest` does not add the length of a payload to the headers.
        TestRequest::post()
            .uri(path)
            .insert_header((header::CONTENT_LENGTH, bytes))
            .set_payload("a".repeat(bytes))
    }

    fn response(status: StatusCode, body: &str, face: &str) -> (StatusCode, String, String) {
        (status, body.to_owned(), face.to_owned())
    }

    #[actix_web::test]
    async fn face_serves_its_prefix_and_every_path_below_it() {
        assert_eq!(get("/a").await, response(StatusCode::OK, "/a 0", "main"));
        assert_eq!(get("/phone").await, response(StatusCode::OK, "/phone 0", "phone"));
        assert_eq!(get("/phone/app.js").await, response(StatusCode::OK, "/phone/{File} 0", "phone"));
        assert_eq!(get("/phone/a/b").await, response(StatusCode::NOT_FOUND, "phone", "phone"));
        for path in ["/phones", "/", "/b/phone"] {
            assert_eq!(get(path).await, response(StatusCode::NOT_FOUND, "main", "main"), "{path}");
        }
    }

    #[actix_web::test]
    async fn wrong_method_is_refused_by_the_face_of_the_path() {
        let service = init_service(application().into_app()).await;
        let refused = call_service(&service, post("/phone/app.js", 0).to_request()).await;
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused.headers().get(header::ALLOW).unwrap(), "GET, HEAD, OPTIONS");
        assert_eq!(read_body(refused).await, "phone");
        let options = send(application(), TestRequest::default().method(Method::OPTIONS).uri("/phone")).await;
        assert_eq!(options, response(StatusCode::NO_CONTENT, "", "phone"));
    }

    #[actix_web::test]
    async fn body_beyond_the_limit_of_its_route_is_refused() {
        let kept = async |request| send(application(), request).await;
        assert_eq!(kept(post("/phone/small", 8)).await, response(StatusCode::OK, "/phone/small 8", "phone"));
        assert_eq!(kept(post("/phone/small", 9)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        let large = |bytes| post("/phone/large", bytes).insert_header((header::AUTHORIZATION, "Basic"));
        let expected = response(StatusCode::OK, "/phone/large 100000", "phone");
        assert_eq!(kept(large(100_000)).await, expected);
        assert_eq!(kept(large(100_001)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(kept(post("/phone/large", 100_000)).await.0, StatusCode::UNAUTHORIZED);
    }

    #[actix_web::test]
    async fn request_is_refused_by_the_face_of_its_path_during_shutdown() {
        let application = application();
        application.settings().draining.begin();
        let refused = send(application, TestRequest::get().uri("/phone/app.js")).await;
        assert_eq!(refused, response(status(Code::Unavailable), "phone", "phone"));
    }

    #[actix_web::test]
    async fn panic_of_a_handler_is_reported_by_its_face() {
        let failed = send(application(), post("/phone/panic", 0)).await;
        assert_eq!(failed, response(StatusCode::INTERNAL_SERVER_ERROR, "phone", "phone"));
    }
}
