"""Every setting of the control plane. Each is read from the environment and described in docs/configuration.md."""

from pathlib import Path

from foundation.environment import BadSetting, Environment
from kernex import __version__, admin_theme

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()
VERSION = __version__

# Hosts, proxies and keys
DEBUG = env.flag("KERNEX_DEBUG", False)
SECRET_KEY = env.text("SECRET_KEY")
if len(SECRET_KEY) < 50:
    raise BadSetting(
        "SECRET_KEY is missing or short: it accepts 50 or more random characters, the same in every process."
    )
SECRET_KEY_FALLBACKS = env.entries("SECRET_KEY_FALLBACKS")
PUBLIC_URL = env.text("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
if not PUBLIC_URL.startswith(("http://", "https://")):
    raise BadSetting(
        f"PUBLIC_URL is {PUBLIC_URL!r}: it accepts the URL that browsers and devices use, https://fleet.example.com."
    )
SECURE = PUBLIC_URL.startswith("https://")
ALLOWED_HOSTS = env.entries("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
TRUSTED_PROXY = env.flag("TRUSTED_PROXY", False)
TRUSTED_PROXY_HOPS = env.number("TRUSTED_PROXY_HOPS", 1, minimum=1, maximum=10)
METRICS_TOKEN = env.text("METRICS_TOKEN")
if METRICS_TOKEN and len(METRICS_TOKEN) < 20:
    raise BadSetting("METRICS_TOKEN is short: it accepts at least 20 random characters, or nothing.")
ON_APP_PLATFORM = env.flag("KERNEX_ON_APP_PLATFORM", False) or bool(env.text("DIGITALOCEAN_APP_ID"))
INSTANCES = env.number("KERNEX_INSTANCES", 1, minimum=1, maximum=64)

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXY else None
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_SSL_REDIRECT = SECURE
SECURE_REDIRECT_EXEMPT = [r"^(health(/live)?|metrics)$"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_AGE = 12 * 3600

# Database
DATABASES = {"default": env.database("DATABASE_URL") | {"DISABLE_SERVER_SIDE_CURSORS": True}}
# Timeouts for a server that accepts connections but does not respond, and for one that disappeared.
DATABASES["default"]["OPTIONS"] = {
    "connect_timeout": 3, "tcp_user_timeout": 20_000, **DATABASES["default"]["OPTIONS"]
}  # fmt: skip
DATABASE_POOL = env.number("DATABASE_POOL", 4, minimum=0, maximum=64)
if DATABASE_POOL:
    # One pool per process, opened after the fork. The backend checks each session that it takes, and replaces broken
    # ones. A request that waits longer than `timeout` for a new session gets 503 with Retry-After. During an
    # outage, psycopg_pool doubles the time between its attempts until `reconnect_timeout`; the next request then makes
    # a new attempt.
    DATABASES["default"]["ENGINE"] = "foundation.postgresql"
    DATABASES["default"]["OPTIONS"]["pool"] = {
        "min_size": 1, "max_size": DATABASE_POOL, "timeout": 3, "reconnect_timeout": 3
    }  # fmt: skip
# The heartbeat's statement is prepared once per connection. PgBouncer in transaction mode loses prepared statements.
DATABASE_PREPARE = env.flag("DATABASE_PREPARE", True)
DATABASES["default"]["OPTIONS"]["prepare_threshold"] = 5 if DATABASE_PREPARE else None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Fleet
HEARTBEAT_SAMPLE_SECONDS = env.number("HEARTBEAT_SAMPLE_SECONDS", 900, minimum=1, maximum=86_400)
HEARTBEAT_KEEP_DAYS = env.number("HEARTBEAT_KEEP_DAYS", 7, minimum=1, maximum=366)
# On average one heartbeat per device in this many seconds (0: no limit), and this many in a burst.
HEARTBEAT_LIMIT_SECONDS = env.number("HEARTBEAT_LIMIT_SECONDS", 1, minimum=0, maximum=3600)
HEARTBEAT_LIMIT_BURST = env.number("HEARTBEAT_LIMIT_BURST", 20, minimum=1, maximum=1000)
COMMAND_KEEP_DAYS = env.number("COMMAND_KEEP_DAYS", 30, minimum=1, maximum=366)
# Device logs: how much one request asks for, how long it waits for the device, how long the text is kept.
LOG_MAX_SIZE = env.number("LOG_MAX_SIZE", 1_048_576, minimum=1024, maximum=4_194_304)
LOG_REQUEST_EXPIRY_SECONDS = env.number("LOG_REQUEST_EXPIRY_SECONDS", 86_400, minimum=60, maximum=2_592_000)
LOG_KEEP_DAYS = env.number("LOG_KEEP_DAYS", 7, minimum=1, maximum=366)
EVENT_KEEP_DAYS = env.number("EVENT_KEEP_DAYS", 365, minimum=30, maximum=36_500)
# Threads per web process; gunicorn.conf.py starts them.
WEB_THREADS = env.number("WEB_THREADS", 4, minimum=1, maximum=64)
DEVICE_DEADLINE_SECONDS = env.number("DEVICE_DEADLINE_SECONDS", 86_400, minimum=10, maximum=31_536_000)

# Bundles
STORAGE_DIR = Path(env.text("STORAGE_DIR", str(BASE_DIR / "var" / "storage")))
STORAGE_BUCKET = env.text("STORAGE_BUCKET")
BUCKET = {
    "bucket_name": STORAGE_BUCKET,
    "endpoint_url": env.text("STORAGE_ENDPOINT_URL").rstrip("/") or None,
    "public_endpoint_url": env.text("STORAGE_PUBLIC_ENDPOINT_URL").rstrip("/"),
    "region_name": env.text("STORAGE_REGION", "us-east-1"),
    "access_key": env.text("STORAGE_ACCESS_KEY"),
    "secret_key": env.text("STORAGE_SECRET_KEY"),
}
for name in ("endpoint_url", "public_endpoint_url"):
    if not (BUCKET[name] or "https://").startswith(("http://", "https://")):
        raise BadSetting(f"STORAGE_{name.upper()} is {BUCKET[name]!r}: it accepts the storage's https:// URL.")
if STORAGE_BUCKET and not (BUCKET["access_key"] and BUCKET["secret_key"]):
    raise BadSetting("STORAGE_BUCKET is set: it needs its key in STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY.")
if BUCKET["access_key"] and not STORAGE_BUCKET:
    raise BadSetting("STORAGE_ACCESS_KEY is set, STORAGE_BUCKET is not: name the bucket that bundles are kept in.")
BROWSER_STORAGE = BUCKET["public_endpoint_url"] or BUCKET["endpoint_url"] or "https://*.amazonaws.com"
UPLOAD_EXPIRY_SECONDS = env.number("UPLOAD_EXPIRY_SECONDS", 86_400, minimum=60, maximum=2_592_000)
UPLOADS_OPEN_MAX = env.number("UPLOADS_OPEN_MAX", 64, minimum=8, maximum=10_000)
UPLOAD_KEEP_DAYS = env.number("UPLOAD_KEEP_DAYS", 30, minimum=1, maximum=3_660)
BLOB_KEEP_DAYS = env.number("BLOB_KEEP_DAYS", 7, minimum=1, maximum=3_660)

# Apps and middleware
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "foundation.adminsite.apps.KernexAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "axes",
    "kernex",
    "foundation.adminsite.apps.AdminSiteConfig",
    "foundation.events",
    "foundation.accounts",
    "foundation.rate_limits",
    "devices",
    "bundles",
    "deployments",
    "operations",
]
# The fields of queries over devices, from all apps; the order is that of messages and suggestions.
QUERY_FIELDS = ["devices.queries.fields.FIELDS", "deployments.query_fields.FIELDS"]
# What completes the parts of fields' names.
QUERY_PATH_COMPLETERS = {"PRODUCT": "deployments.query_fields.complete_products"}
MIDDLEWARE = [
    "operations.monitoring.request_metrics.Measured",
    "foundation.api.middleware.ApiErrors",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "foundation.api.body_limits.BodyLimits",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "kernex.urls"
WSGI_APPLICATION = "kernex.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "kernex" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Language, time, static files
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = ["kernex.formats"]
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(BASE_DIR / "var" / "static")))
STORAGES = {
    "default": {"BACKEND": "bundles.storage.s3_client.Bucket", "OPTIONS": BUCKET}
    if STORAGE_BUCKET
    else {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": STORAGE_DIR}},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# Sign-in
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/admin/login/"
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 1  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_TEMPLATE = "kernex/locked_out.html"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_DISABLE_ACCESS_LOG = True  # sign-ins are events
AXES_ENABLE_ADMIN = False
AXES_CLIENT_IP_CALLABLE = "foundation.api.client_address.client_address"

# The permissions that an owner needs for an API token of each role. Each request checks them again. Every role may
# read everything. The role admin is for superusers.
_READ = ["devices.view_device", "bundles.view_bundle", "deployments.view_deployment"]
ROLE_PERMISSIONS = {
    "viewer": _READ,
    "operator": [*_READ, "devices.change_device", "deployments.add_deployment", "deployments.change_deployment"],
    "publisher": [*_READ, "bundles.add_bundle", "bundles.change_bundle"],
}

# API
MAX_BODY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_SIZE
# The largest form, in bytes, that a person who is signed in to the admin may send, such as one with an archive.
FORM_UPLOAD_MAX_SIZE = env.number("FORM_UPLOAD_MAX_SIZE", 2 * 1024**3, minimum=1024**2, maximum=1024**4)
# Requests per minute across all processes, of which all may come at once; 0 means no limit.
TOKEN_REQUESTS_PER_MINUTE = env.number("TOKEN_REQUESTS_PER_MINUTE", 6000, minimum=0, maximum=1_000_000)
DEVICE_REQUESTS_PER_MINUTE = env.number("DEVICE_REQUESTS_PER_MINUTE", 1200, minimum=0, maximum=1_000_000)
REGISTRATIONS_PER_MINUTE = env.number("REGISTRATIONS_PER_MINUTE", 600, minimum=0, maximum=1_000_000)
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["foundation.api.parsers.StrictJson"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["foundation.accounts.authentication.BearerToken"],
    "DEFAULT_PERMISSION_CLASSES": ["foundation.accounts.permissions.ReadOrOperate"],
    "DEFAULT_THROTTLE_CLASSES": ["foundation.rate_limits.throttles.TokenThrottle"],
    "DEFAULT_PAGINATION_CLASS": "foundation.api.pagination.Pages",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "foundation.api.exceptions.answer",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "foundation.api.negotiation.AlwaysJson",
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Kernex",
    "DESCRIPTION": "Ships versioned bundles to fleets of edge devices and verifies that they run.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "foundation.api.schema.with_errors"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "BundleState": "bundles.models.BundleState",
        "DeploymentState": "deployments.states.DeploymentState",
        "DeviceDeploymentState": "deployments.states.DeviceDeploymentState",
        "CommandKind": "devices.models.CommandKind",
        "CommandOutcome": "devices.models.CommandOutcome",
        "CommandState": "devices.models.CommandState",
        "ReportedState": "deployments.states.REPORTED_CHOICES",
        "DeviceState": "devices.models.DeviceState",
        "LogRequestState": "devices.models.LogRequestState",
        "UploadState": "bundles.models.UploadState",
        "WaitKind": "deployments.waiting.WaitKind",
    },
}

# Content security policy: unfold's Alpine.js needs eval, and its components need inline styles.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'", "'unsafe-eval'"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        # Pages of the admin send archives directly to storage.
        "connect-src": ["'self'", *([BROWSER_STORAGE] if STORAGE_BUCKET else [])],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    }
}

# Logs
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"])
LOG_FORMAT = env.choice("LOG_FORMAT", "text", ["text", "json"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": f"foundation.logs.{LOG_FORMAT.title()}"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own handlers for these would mail admins, and would log lines without a request id.
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        "django.server": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        # foundation.accounts.sign_in writes one line for each attempt.
        "axes": {"level": "ERROR"},
        # A 4xx is the client's mistake.
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "ERROR"},
    },
}

SENTRY_DSN = env.text("SENTRY_DSN")
if SENTRY_DSN and not SENTRY_DSN.startswith(("http://", "https://")):
    raise BadSetting(
        "SENTRY_DSN is not a URL: it accepts the DSN that Sentry shows for a project, https://KEY@HOST/ID."
    )

# Admin theme
UNFOLD = admin_theme.UNFOLD
