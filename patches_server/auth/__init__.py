"""Who is calling, and what they may do. Knows no transport and no document's content."""

from patches_server.auth.access import Access, Auth, AuthProvider, Principal, allow_all

__all__ = ["Access", "Auth", "AuthProvider", "Principal", "allow_all"]
