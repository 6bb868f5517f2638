"""Runs nv-local-gpu-verifier on its bundled Hopper report 550.90.07 and two RIM files, revocation answered by a constant: the same
measurements and the same work as ccnode-attest with --revocation off. Arguments: driver RIM, VBIOS RIM, RIM root."""
import sys

from verifier import cc_admin
from verifier.cc_admin_utils import CcAdminUtils
from verifier.config import BaseSettings, HopperSettings

CcAdminUtils.ocsp_certificate_chain_validation = staticmethod(lambda *a, **k: (True, "", "good", None))
driver, vbios, root = sys.argv[1:]
BaseSettings.NONCE = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"  # of the bundled report
BaseSettings.RIM_ROOT_CERT = root
HopperSettings.DRIVER_RIM_PATH = driver  # the option is read and then not used
sys.argv = ["cc_admin", "--test_no_gpu", "--user_mode", "--driver_rim", driver, "--vbios_rim", vbios]
cc_admin.main()
