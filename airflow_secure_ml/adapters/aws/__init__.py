"""AWS and what speaks as AWS does; boto3 and botocore are imported here alone."""
