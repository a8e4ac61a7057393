"""The WSGI application that gunicorn serves."""

import os

from django.core.wsgi import get_wsgi_application

from operations.monitoring.error_reports import report_defects

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kernex.settings")

report_defects()
application = get_wsgi_application()
