"""The development server: an application over FastCGI, with HTTP in front of it, started again when its code changes.

Two processes. The parent (:mod:`.run`) holds both listening sockets, answers HTTP (:mod:`.front`) and watches files
(:mod:`.watch`); its child (:mod:`.child`) runs the application with the package's own servers, and is replaced at each
change (:mod:`.supervisor`, :mod:`.process`). Only this part of the package needs what the extra ``dev`` installs.
"""
