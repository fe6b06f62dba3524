"""Workers that run in the environments of other libraries; they import nothing from this one."""
